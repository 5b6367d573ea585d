-- Note that an API process follows a job's events, so that appends are published to it at once.
-- ARGV: id, account, watcher. Returns {} when missing, else {status, seq}
local id, name = ARGV[1], ARGV[3]
local head = redis.call('HMGET', job_key(id), 'account', 'status', 'seq', 'watch', 'worker')
if head[1] ~= ARGV[2] then return {} end
if not TERMINAL[head[2]] then
  local known = false
  for _, other in ipairs(watchers(head[4])) do known = known or other == name end
  if not known then
    redis.call('HSET', job_key(id), 'watch', (head[4] or '') == '' and name or head[4] .. ' ' .. name)
  end
  if (head[5] or '') ~= '' then redis.call('PUBLISH', P .. ':worker:' .. head[5] .. ':control', 'watch ' .. id) end
end
return { head[2], head[3] }
