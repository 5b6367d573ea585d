-- End a running job without new events (it failed before the first token, or it was cancelled).
-- Takes FinishArgs, then RetentionArgs. Returns 'finished' | 'lost'
local head = redis.call('HMGET', job_key(job_id), 'fence', 'status')
if head[1] ~= fence then return 'lost' end
if TERMINAL[head[2]] then return 'finished' end
if head[2] ~= IN_PROGRESS then return 'lost' end
finish(job_id, record(job_id), status, error_json, now_ms(), retention, false)
return 'finished'
