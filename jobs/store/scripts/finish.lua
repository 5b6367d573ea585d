-- End a running job without new events (failure found before the first token, or a cancel).
-- ARGV: id, fence, status, error json, keep[4]. Returns 'finished' | 'lost'.
local id, fence, status = ARGV[1], ARGV[2], ARGV[3]
local head = redis.call('HMGET', job_key(id), 'fence', 'status')
if head[1] ~= fence then return 'lost' end
if TERMINAL[head[2]] then return 'finished' end
if head[2] ~= 'in_progress' then return 'lost' end
finish(id, record(id), status, ARGV[4], now_ms(), keep_from(5), false)
return 'finished'
