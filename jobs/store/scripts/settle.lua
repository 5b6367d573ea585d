-- Record what was spent and release the reservations of jobs whose usage the ledger has.
-- Spending is absolute and only rises, so repeated and reordered calls do no harm.
-- Takes SettleArgs, then job ids, then (balance, month, scope, nanos) per sum. Returns `job_count`.
local last = REST + job_count - 1
for i = last + 1, #ARGV, 4 do
  local spend, scope, nanos = spend_key(ARGV[i], ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  local known = tonumber(redis.call('HGET', spend, scope))
  if not known or known < tonumber(nanos) then redis.call('HSET', spend, scope, nanos) end
  redis.call('PEXPIRE', spend, SPENDING_MS)
end
for i = REST, last do release_reservation(ARGV[i]) end
return tonumber(job_count)
