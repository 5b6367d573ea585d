-- Remove finished jobs whose retention has passed. Takes PurgeArgs. Returns how many.
local due = redis.call('ZRANGEBYSCORE', P .. ':purge', '-inf', int(now_ms()), 'LIMIT', 0, limit)
for _, member in ipairs(due) do
  local account, id = string.match(member, '^(%S+) (%S+)$')
  redis.call('ZREM', P .. ':purge', member)
  redis.call('ZREM', P .. ':account:' .. account .. ':jobs', id)
  leave_dead_letters(id, account)
  redis.call('DEL', job_key(id), log_key(id))
end
return #due
