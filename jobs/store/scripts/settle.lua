-- The ledger has these jobs' usage: what was spent is known, and their holds are let go.
-- Spending is absolute and only rises, so that repeats and answers out of order do no harm.
-- ARGV: number of jobs, ids, then (purse, month, scope, nanos) per sum
local jobs = tonumber(ARGV[1])
for i = jobs + 2, #ARGV, 4 do
  local spend, scope, nanos = spend_key(ARGV[i], ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  local known = tonumber(redis.call('HGET', spend, scope))
  if not known or known < tonumber(nanos) then redis.call('HSET', spend, scope, nanos) end
  redis.call('PEXPIRE', spend, SPENDING_MS)
end
for i = 2, jobs + 1 do release_hold(ARGV[i]) end
return jobs
