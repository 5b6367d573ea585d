-- Read the records and logs of finished jobs, many in one answer and each only up to a bound: logs
-- can be long, and Redis runs nothing else meanwhile.
-- Takes FinishedArgs, then field names, then (job id, number of events) per job.
-- Returns per job: its fields' values, its log
local fields = {}
for i = REST, REST + field_count - 1 do fields[#fields + 1] = ARGV[i] end
local jobs = {}
for i = REST + field_count, #ARGV, 2 do
  local log = {}
  if ARGV[i + 1] ~= '0' then
    log = redis.call('XRANGE', log_key(ARGV[i]), '-', '+', 'COUNT', ARGV[i + 1])
  end
  jobs[#jobs + 1] = { redis.call('HMGET', job_key(ARGV[i]), unpack(fields)), log }
end
return jobs
