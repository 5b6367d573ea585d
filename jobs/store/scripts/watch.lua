-- Note that an API process follows a job's events, so that further events are published to it.
-- Takes WatchArgs. Returns {} when the job is missing, else WatchedRow: status, seq
local head = redis.call('HMGET', job_key(job_id), 'account', 'status', 'seq', 'watch', 'worker')
if head[1] ~= account then return {} end
if not TERMINAL[head[2]] then
  local known = false
  for _, other in ipairs(watchers(head[4])) do known = known or other == watcher end
  if not known then
    redis.call('HSET', job_key(job_id), 'watch', (head[4] or '') == '' and watcher or head[4] .. ' ' .. watcher)
  end
  if (head[5] or '') ~= '' then redis.call('PUBLISH', P .. ':worker:' .. head[5] .. ':control', 'watch ' .. job_id) end
end
return { head[2], head[3] }
