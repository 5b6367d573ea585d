-- One heartbeat: prolong all leases of a worker and its own registration.
-- Takes RenewArgs, then (job id, fence) per lease. Returns the ids of jobs whose lease is lost.
local now, lost = now_ms(), {}
for at = REST, #ARGV, 2 do
  local id = ARGV[at]
  local job = redis.call('HMGET', job_key(id), 'fence', 'status')
  if job[1] == ARGV[at + 1] and job[2] == IN_PROGRESS then
    redis.call('ZADD', q(queue, 'running'), 'XX', int(now + lease_ms), id)
  else
    lost[#lost + 1] = id
  end
end
redis.call('SADD', P .. ':queues', queue)
redis.call('ZADD', q(queue, 'workers'), int(now + 3 * lease_ms), worker)
redis.call('HSET', q(queue, 'slots'), worker, slots)
redis.call('SET', P .. ':worker:' .. worker, description, 'PX', int(3 * lease_ms))
return lost
