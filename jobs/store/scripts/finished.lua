-- Read what is to be archived of finished jobs, many in one answer, and no more than is asked for:
-- logs can be long, and nothing else runs meanwhile.
-- ARGV: number of fields, field names, then (job id, number of events) per job.
-- Returns per job: its fields' values, its log
local fields = {}
for i = 2, tonumber(ARGV[1]) + 1 do fields[#fields + 1] = ARGV[i] end
local jobs = {}
for i = #fields + 2, #ARGV, 2 do
  local log = {}
  if ARGV[i + 1] ~= '0' then
    log = redis.call('XRANGE', log_key(ARGV[i]), '-', '+', 'COUNT', ARGV[i + 1])
  end
  jobs[#jobs + 1] = { redis.call('HMGET', job_key(ARGV[i]), unpack(fields)), log }
end
return jobs
