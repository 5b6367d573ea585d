-- End a model's retirement: its next worker, or its declaration, makes it known again.
-- Takes QueueArgs. Returns 1, or 0 when it is not retired
if redis.call('HDEL', P .. ':retired', queue) == 0 then return 0 end
redis.call('DEL', q(queue, 'mode'))
for _, worker in ipairs(redis.call('ZRANGE', q(queue, 'workers'), 0, -1)) do
  redis.call('PUBLISH', P .. ':worker:' .. worker .. ':control', 'mode ' .. MODE_OPEN)
end
return 1
