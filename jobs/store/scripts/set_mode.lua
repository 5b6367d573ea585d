-- Set a queue's mode and tell its workers; one that misses the message learns it with a heartbeat.
-- Takes SetModeArgs. Returns the mode before, or nil when there is no such queue
if redis.call('SISMEMBER', P .. ':queues', queue) == 0 then return nil end
local before = redis.call('HGET', q(queue, 'mode'), 'mode') or MODE_OPEN
redis.call('HSET', q(queue, 'mode'), 'mode', mode, 'by', set_by, 'at', int(now_ms()))
for _, worker in ipairs(redis.call('ZRANGE', q(queue, 'workers'), 0, -1)) do
  redis.call('PUBLISH', P .. ':worker:' .. worker .. ':control', 'mode ' .. mode)
end
return before
