-- Let go of holds whose job is gone, once all usage that was under way then is in the ledger: the
-- job may have been deleted after it ended.
-- ARGV: cursor. Returns {next cursor, how many}
local first = redis.call('XRANGE', P .. ':outbox', '-', '+', 'COUNT', 1)[1]
local oldest = first and tonumber(string.match(first[1], '^%d+'))
local found = redis.call('HSCAN', P .. ':holds', ARGV[1], 'COUNT', 200)
local missed, released, now = P .. ':holds:missed', 0, now_ms()
for i = 1, #found[2], 2 do
  local id = found[2][i]
  if redis.call('EXISTS', job_key(id)) == 0 then
    redis.call('HSETNX', missed, id, int(now))
    if not oldest or oldest > tonumber(redis.call('HGET', missed, id)) then
      release_hold(id)
      released = released + 1
    end
  end
end
return { found[1], released }
