-- What a queue does: is it open, paused or draining, since when, by whom; and who has parked jobs.
-- ARGV: queue. Returns {mode, by, since ms, names, 1 if its model is known}
local mode = redis.call('HMGET', q(ARGV[1], 'mode'), 'mode', 'by', 'at')
return {
  mode[1] or 'open', mode[2] or '', mode[3] or '0', redis.call('SMEMBERS', q(ARGV[1], 'parked_accounts')),
  redis.call('SISMEMBER', P .. ':queues', ARGV[1]),
}
