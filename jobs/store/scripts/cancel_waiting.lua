-- Cancel some of the jobs that wait in one place of a queue; each ends like any cancelled job.
-- ARGV: queue, 'ready' | 'delayed' | 'parked:<who>', first, count, created until ms ('': now), keep[4]
-- Returns {looked at, left waiting, cancelled, now}
local queue, place, first = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now, keep = now_ms(), keep_from(6)
local until_ms = tonumber(ARGV[5]) or now
local ids = redis.call('ZRANGE', q(queue, place), first, first + tonumber(ARGV[4]) - 1)
local cancelled = 0
for _, id in ipairs(ids) do
  local job = record(id)
  if job.status == 'queued' and tonumber(job.created) <= until_ms then
    redis.call('HSET', job_key(id), 'cancel', int(now))
    finish(id, job, 'cancelled', '', now, keep, false)
    cancelled = cancelled + 1
  end
end
return { #ids, #ids - cancelled, cancelled, int(now) }
