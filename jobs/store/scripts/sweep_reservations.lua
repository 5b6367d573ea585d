-- Release reservations of jobs that are gone (a job may have been deleted after its end), once the
-- ledger has all usage that was in the outbox when the job was first missed.
-- Takes SweepReservationsArgs. Returns SweptReservationsRow: cursor, released
local first = redis.call('XRANGE', P .. ':outbox', '-', '+', 'COUNT', 1)[1]
local oldest = first and tonumber(string.match(first[1], '^%d+'))
local found = redis.call('HSCAN', P .. ':holds', cursor, 'COUNT', 200)
local missed, released, now = P .. ':holds:missed', 0, now_ms()
for i = 1, #found[2], 2 do
  local id = found[2][i]
  if redis.call('EXISTS', job_key(id)) == 0 then
    redis.call('HSETNX', missed, id, int(now))
    if not oldest or oldest > tonumber(redis.call('HGET', missed, id)) then
      release_reservation(id)
      released = released + 1
    end
  end
end
return { found[1], released }
