-- Read where a waiting job stands and the queue's service times. Takes PositionArgs.
-- Returns PositionRow: rank, running, slots, finished, mean, square, now, mode   (rank -1: not ready)
local now = now_ms()
local rank = redis.call('ZRANK', q(queue, 'ready'), job_id)
local slots = 0
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', q(queue, 'workers'), int(now), '+inf')) do
  slots = slots + (tonumber(redis.call('HGET', q(queue, 'slots'), worker)) or 0)
end
local service = redis.call('HMGET', q(queue, 'service'), 'n', 'mean', 'square')
return { rank or -1, redis.call('ZCARD', q(queue, 'running')), slots, service[1] or '0', service[2] or '0', service[3] or '0', int(now),
  redis.call('HGET', q(queue, 'mode'), 'mode') or MODE_OPEN }
