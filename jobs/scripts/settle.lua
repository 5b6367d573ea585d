-- The ledger has these jobs' usage: what was spent is known, and their holds are let go.
-- Spending is absolute and only rises, so that repeats and answers out of order do no harm.
-- ARGV: number of jobs, ids, then (bucket, scope, nanos) per sum
local jobs = tonumber(ARGV[1])
for i = jobs + 2, #ARGV, 3 do
  local spend, field, nanos = spend_key(ARGV[i]), 'spent:' .. ARGV[i + 1], ARGV[i + 2]
  local known = tonumber(redis.call('HGET', spend, field))
  if not known or known < tonumber(nanos) then redis.call('HSET', spend, field, nanos) end
  redis.call('PEXPIRE', spend, SPENDING_MS)
end
for i = 2, jobs + 1 do release_hold(ARGV[i]) end
return jobs
