-- End some of the jobs that wait in one place of a queue: cancel them, or fail them as dead letters.
-- Takes EndWaitingArgs, then RetentionArgs. `place` is 'ready', 'delayed', 'apart' or 'parked:<owner>';
-- jobs created after `created_until` (ms; '' means now) are left alone. With an `error_json` the
-- jobs fail, without one they are cancelled.
-- Returns WaitingSliceRow: looked_at, left_waiting, ended, now
local now = now_ms()
local until_ms = tonumber(created_until) or now
local ids = redis.call('ZRANGE', q(queue, place), first, first + limit - 1)
local ended = 0
for _, id in ipairs(ids) do
  local job = record(id)
  if job.status == QUEUED and tonumber(job.created) <= until_ms then
    if error_json == '' then
      redis.call('HSET', job_key(id), 'cancel', int(now))
      finish(id, job, CANCELLED, '', now, retention, false)
    else
      finish(id, job, FAILED, error_json, now, retention, true)
    end
    ended = ended + 1
  end
end
return { #ids, #ids - ended, ended, int(now) }
