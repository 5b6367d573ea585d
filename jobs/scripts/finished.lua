-- Read what is to be archived of finished jobs, many in one answer.
-- ARGV: number of fields, field names, job ids. Returns per job: its fields' values, its log
local fields = {}
for i = 2, tonumber(ARGV[1]) + 1 do fields[#fields + 1] = ARGV[i] end
local jobs = {}
for i = #fields + 2, #ARGV do
  jobs[#jobs + 1] = { redis.call('HMGET', job_key(ARGV[i]), unpack(fields)), redis.call('XRANGE', log_key(ARGV[i]), '-', '+') }
end
return jobs
