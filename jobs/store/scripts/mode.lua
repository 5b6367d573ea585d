-- Read a queue's mode, who set it and when, and who has parked jobs. Takes QueueArgs.
-- Returns ModeRow: mode, set_by, since, parked, known
local mode = redis.call('HMGET', q(queue, 'mode'), 'mode', 'by', 'at')
return {
  mode[1] or MODE_OPEN, mode[2] or '', mode[3] or '0', redis.call('SMEMBERS', q(queue, 'parked_accounts')),
  redis.call('SISMEMBER', P .. ':queues', queue),
}
