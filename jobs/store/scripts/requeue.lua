-- Give a running job back: after a failure (counted, maybe delayed) or a drain (front, uncounted).
-- ARGV: id, fence, error json, delay ms, counted (1/0), max attempts, keep[4]
-- Returns 'queued' | 'cancelled' | 'failed' | 'lost'
local id = ARGV[1]
local head = redis.call('HMGET', job_key(id), 'fence', 'status')
if head[1] ~= ARGV[2] or head[2] ~= 'in_progress' then return 'lost' end
return requeue(id, record(id), ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[6]), now_ms(), keep_from(7))
