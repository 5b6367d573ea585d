-- Cancel some of the jobs that wait in one place of a queue; each ends like any cancelled job.
-- Takes CancelWaitingArgs, then RetentionArgs. `place` is 'ready', 'delayed', 'apart' or 'parked:<owner>';
-- jobs created after `created_until` (ms; '' means now) are left alone.
-- Returns WaitingSliceRow: looked_at, left_waiting, cancelled, now
local now = now_ms()
local until_ms = tonumber(created_until) or now
local ids = redis.call('ZRANGE', q(queue, place), first, first + limit - 1)
local cancelled = 0
for _, id in ipairs(ids) do
  local job = record(id)
  if job.status == QUEUED and tonumber(job.created) <= until_ms then
    redis.call('HSET', job_key(id), 'cancel', int(now))
    finish(id, job, CANCELLED, '', now, retention, false)
    cancelled = cancelled + 1
  end
end
return { #ids, #ids - cancelled, cancelled, int(now) }
