-- Erase a finished job's record and log now; its usage stays in the outbox. The tombstone says that
-- its client did it: the archive must not keep it either.
-- ARGV: id, account, tombstone ms. Returns 'missing' | 'deleted' | the status that forbids it
local id, account = ARGV[1], ARGV[2]
local head = redis.call('HMGET', job_key(id), 'account', 'status')
if head[1] ~= account then return 'missing' end
if not TERMINAL[head[2]] then return head[2] end
redis.call('DEL', job_key(id), log_key(id))
redis.call('SET', P .. ':gone:' .. id, account .. ' erased', 'PX', ARGV[3])
redis.call('ZREM', P .. ':account:' .. account .. ':jobs', id)
redis.call('ZREM', P .. ':purge', account .. ' ' .. id)
redis.call('ZREM', P .. ':dead', id)
return 'deleted'
