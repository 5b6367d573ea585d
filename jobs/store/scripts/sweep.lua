-- Repair one queue: stalled leases, due retries, passed deadlines, missing tickets, gone workers.
-- ARGV: queue, limit, max attempts, base ms, cap ms, overdue grace ms, keep[4]
-- Returns {stalled, dead, released, expired, tickets, unparked}, then per attempt that ended without
-- its worker's word: {id, account, spec, fence, attempt, worker, claimed ms, now ms}
local queue, limit, max_attempts = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local base_ms, cap_ms, grace_ms = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local keep = keep_from(7)
local now = now_ms()
local stalled, dead, released, expired, tickets, unparked = 0, 0, 0, 0, 0, 0
local abandoned = {}

local function abandon(id, job)
  local more = redis.call('HMGET', job_key(id), 'spec', 'fence')
  abandoned[#abandoned + 1] = { id, job.account, more[1], more[2], job.attempt, job.worker, job.claimed, int(now) }
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', q(queue, 'running'), '-inf', int(now), 'LIMIT', 0, limit)) do
  local job = record(id)
  if job.status ~= 'in_progress' then
    redis.call('ZREM', q(queue, 'running'), id)
  else
    -- The first stall goes back at once; a job that keeps killing its worker waits longer each time.
    local failures = tonumber(job.failures) or 0
    abandon(id, job)
    local delay = failures > 0 and math.min(cap_ms, base_ms * 2 ^ (failures - 1)) or 0
    local outcome = requeue(id, job, '{"code":"too-many-attempts","message":"the job lost its worker too often","param":null}',
      delay, true, max_attempts, now, keep)
    stalled = stalled + 1
    if outcome == 'failed' then dead = dead + 1 end
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', q(queue, 'delayed'), '-inf', int(now), 'LIMIT', 0, limit)) do
  redis.call('ZREM', q(queue, 'delayed'), id)
  local score = redis.call('HGET', job_key(id), 'score')
  if score then make_ready(queue, id, tonumber(score)) released = released + 1 end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', q(queue, 'deadlines'), '-inf', int(now), 'LIMIT', 0, limit)) do
  local job = record(id)
  if job.status == 'queued' then
    finish(id, job, 'expired', '{"code":"deadline-exceeded","message":"the job did not start in time","param":null}', now, keep, false)
    expired = expired + 1
  elseif job.status == 'in_progress' then
    -- Its worker enforces the limit to the step; this is the net for one that hangs.
    local due = tonumber(redis.call('ZSCORE', q(queue, 'deadlines'), id))
    if due + grace_ms <= now then
      abandon(id, job)
      redis.call('HINCRBY', job_key(id), 'fence', 1)
      local deadline = tonumber(redis.call('HGET', job_key(id), 'deadline')) or math.huge
      if deadline <= now then
        finish(id, job, 'expired', '{"code":"deadline-exceeded","message":"the deadline passed while the job ran","param":null}', now, keep, false)
      else
        finish(id, job, 'failed', '{"code":"run-timeout","message":"the job ran longer than the limit","param":null}', now, keep, true)
      end
      expired = expired + 1
    end
  else
    redis.call('ZREM', q(queue, 'deadlines'), id)
  end
end

for _, who in ipairs(redis.call('SRANDMEMBER', q(queue, 'parked_accounts'), limit)) do
  local head = redis.call('ZRANGE', q(queue, 'parked:' .. who), 0, 0)[1]
  local job = head and redis.call('HMGET', job_key(head), 'cap', 'group', 'group_cap') or {}
  if not is_full(queue, who, tonumber(job[job[2] == who and 3 or 1]) or 0) then
    unpark(queue, who)
    unparked = unparked + 1
  end
end

local missing = redis.call('ZCARD', q(queue, 'ready')) - redis.call('LLEN', tickets_key(queue))
for _ = 1, math.min(missing, limit) do
  push_ticket(queue)
  tickets = tickets + 1
end

for _, worker in ipairs(redis.call('ZRANGEBYSCORE', q(queue, 'workers'), '-inf', int(now))) do
  redis.call('ZREM', q(queue, 'workers'), worker)
  redis.call('HDEL', q(queue, 'slots'), worker)
end
return { stalled, dead, released, expired, tickets, unparked, unpack(abandoned) }
