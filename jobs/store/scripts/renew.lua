-- One heartbeat: prolong all of a worker's leases and its own registration.
-- ARGV: queue, worker, lease ms, slots, description, then id, fence per job
-- Returns the ids whose lease is lost.
local queue, worker, lease_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now, lost = now_ms(), {}
for at = 6, #ARGV, 2 do
  local id = ARGV[at]
  local job = redis.call('HMGET', job_key(id), 'fence', 'status')
  if job[1] == ARGV[at + 1] and job[2] == 'in_progress' then
    redis.call('ZADD', q(queue, 'running'), 'XX', int(now + lease_ms), id)
  else
    lost[#lost + 1] = id
  end
end
redis.call('SADD', P .. ':queues', queue)
redis.call('ZADD', q(queue, 'workers'), int(now + 3 * lease_ms), worker)
redis.call('HSET', q(queue, 'slots'), worker, ARGV[4])
redis.call('SET', P .. ':worker:' .. worker, ARGV[5], 'PX', int(3 * lease_ms))
return lost
