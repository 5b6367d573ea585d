-- Change a queue's mode and tell its workers; one that misses the message learns it with a heartbeat.
-- Takes SetModeArgs: `accepts` and `runs` are '1', '0', or '' to keep what holds now.
-- Returns nil when there is no such queue, else ModeChangeRow: before, now
if redis.call('SISMEMBER', P .. ':queues', queue) == 0 then return nil end
local before = redis.call('HGET', q(queue, 'mode'), 'mode') or MODE_OPEN
local takes = before == MODE_OPEN or before == MODE_PAUSED
local starts = before == MODE_OPEN or before == MODE_DRAINING
if accepts ~= '' then takes = accepts == '1' end
if runs ~= '' then starts = runs == '1' end
local mode = takes and (starts and MODE_OPEN or MODE_PAUSED) or (starts and MODE_DRAINING or MODE_CLOSED)
redis.call('HSET', q(queue, 'mode'), 'mode', mode, 'by', set_by, 'at', int(now_ms()))
for _, worker in ipairs(redis.call('ZRANGE', q(queue, 'workers'), 0, -1)) do
  redis.call('PUBLISH', P .. ':worker:' .. worker .. ':control', 'mode ' .. mode)
end
return { before, mode }
