-- Erase the record and log of a finished job; its usage stays in the outbox. The tombstone says that
-- the client erased the job, so that the archive does not keep it either.
-- Takes DeleteArgs. Returns 'missing' | 'deleted' | the status that forbids it
local head = redis.call('HMGET', job_key(job_id), 'account', 'status')
if head[1] ~= account then return 'missing' end
if not TERMINAL[head[2]] then return head[2] end
redis.call('DEL', job_key(job_id), log_key(job_id))
redis.call('SET', P .. ':gone:' .. job_id, account .. ' erased', 'PX', tombstone_ms)
redis.call('ZREM', P .. ':account:' .. account .. ':jobs', job_id)
redis.call('ZREM', P .. ':purge', account .. ' ' .. job_id)
leave_dead_letters(job_id, account)
return 'deleted'
