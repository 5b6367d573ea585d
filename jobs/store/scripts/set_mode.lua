-- Open, pause or drain a queue, and tell its workers at once; their heartbeats are the net.
-- ARGV: queue, 'open' | 'paused' | 'draining', who. Returns the mode before, or nil: no such queue
local queue, mode = ARGV[1], ARGV[2]
if redis.call('SISMEMBER', P .. ':queues', queue) == 0 then return nil end
local before = redis.call('HGET', q(queue, 'mode'), 'mode') or 'open'
redis.call('HSET', q(queue, 'mode'), 'mode', mode, 'by', ARGV[3], 'at', int(now_ms()))
for _, worker in ipairs(redis.call('ZRANGE', q(queue, 'workers'), 0, -1)) do
  redis.call('PUBLISH', P .. ':worker:' .. worker .. ':control', 'mode ' .. mode)
end
return before
