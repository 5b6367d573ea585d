-- Stop a job: at once when it waits, by a flag and a nudge to its worker when it runs.
-- ARGV: id, account, keep[4]. Returns 'missing' | 'cancelled' | 'cancelling' | the terminal status
local id = ARGV[1]
local head = redis.call('HMGET', job_key(id), 'account', 'status', 'worker', 'cancel')
if head[1] ~= ARGV[2] then return 'missing' end
local now = now_ms()
if head[2] == 'queued' then
  redis.call('HSET', job_key(id), 'cancel', int(now))
  finish(id, record(id), 'cancelled', '', now, keep_from(3), false)
  return 'cancelled'
end
if head[2] == 'in_progress' then
  if (head[4] or '') == '' then redis.call('HSET', job_key(id), 'cancel', int(now)) end
  redis.call('PUBLISH', P .. ':worker:' .. head[3] .. ':control', 'cancel ' .. id)
  return 'cancelling'
end
return head[2]
