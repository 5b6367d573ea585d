-- Give a running job back: after a failure (counted, maybe delayed) or a drain (front, uncounted).
-- Takes RequeueArgs, then RetentionArgs. Returns 'lost' | the status that the job has then
local head = redis.call('HMGET', job_key(job_id), 'fence', 'status')
if head[1] ~= fence or head[2] ~= IN_PROGRESS then return 'lost' end
return requeue_job(job_id, record(job_id), error_json, tonumber(delay_ms), counted == '1', tonumber(max_attempts), now_ms(), retention)
