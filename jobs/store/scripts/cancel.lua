-- Cancel a job: end it if it waits; if it runs, set a flag and tell its worker.
-- Takes CancelArgs, then RetentionArgs.
-- Returns 'missing' | 'cancelling' | the terminal status that the job has
local head = redis.call('HMGET', job_key(job_id), 'account', 'status', 'worker', 'cancel')
if head[1] ~= account then return 'missing' end
local now = now_ms()
if head[2] == QUEUED then
  redis.call('HSET', job_key(job_id), 'cancel', int(now))
  finish(job_id, record(job_id), CANCELLED, '', now, retention, false)
  return CANCELLED
end
if head[2] == IN_PROGRESS then
  if (head[4] or '') == '' then redis.call('HSET', job_key(job_id), 'cancel', int(now)) end
  redis.call('PUBLISH', P .. ':worker:' .. head[3] .. ':control', 'cancel ' .. job_id)
  return 'cancelling'
end
return head[2]
