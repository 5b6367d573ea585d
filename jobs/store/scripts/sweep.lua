-- Repair one queue: stalled leases, due retries, passed deadlines, missing tickets, dead workers.
-- Takes SweepArgs, BlameArgs and RetentionArgs.
-- Returns {stalled, dead, released, expired, tickets, unparked}, then a row per attempt that ended
-- without a word of its worker:
-- AbandonedRow: id, account, spec, fence, attempt, worker, claimed, now
local now = now_ms()
local stalled, dead, released, expired, tickets, unparked = 0, 0, 0, 0, 0, 0
local abandoned = {}

local function abandon(id, job)
  local more = redis.call('HMGET', job_key(id), 'spec', 'fence')
  abandoned[#abandoned + 1] = { id, job.account, more[1], more[2], job.attempt, job.worker, job.claimed, int(now) }
end

-- Whether a worker renewed its leases after this one should have been renewed. A registration is
-- kept for three leases.
local function is_alive(worker)
  local until_ms = tonumber(redis.call('ZSCORE', q(queue, 'workers'), worker)) or 0
  return until_ms - now > 2 * tonumber(lease_ms)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', q(queue, 'running'), '-inf', int(now), 'LIMIT', 0, limit)) do
  local job = record(id)
  if job.status ~= IN_PROGRESS then
    redis.call('ZREM', q(queue, 'running'), id)
  else
    abandon(id, job)
    local outcome
    if is_alive(job.worker) then
      -- Its worker goes on, so this was no stop: the answer to a claim, or a renewal, was lost.
      redis.call('HINCRBY', P .. ':totals', 'given_back', 1)
      outcome = requeue_job(id, job, '', 0, false, 0, now, retention, held_against(id, job.seq).apart)
    else
      outcome = after_worker_stop(id, job, false, limits, now, retention)
    end
    stalled = stalled + 1
    if outcome == FAILED then dead = dead + 1 end
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', q(queue, 'delayed'), '-inf', int(now), 'LIMIT', 0, limit)) do
  redis.call('ZREM', q(queue, 'delayed'), id)
  local job = redis.call('HMGET', job_key(id), 'score', 'apart')
  if job[1] then make_claimable(queue, id, tonumber(job[1]), job[2] or '') released = released + 1 end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', q(queue, 'deadlines'), '-inf', int(now), 'LIMIT', 0, limit)) do
  local job = record(id)
  if job.status == QUEUED then
    finish(id, job, EXPIRED, error_object(DEADLINE_EXCEEDED, 'the job did not start in time'), now, retention, false)
    expired = expired + 1
  elseif job.status == IN_PROGRESS then
    -- Its worker enforces the limit after each step; this is for a worker that hangs.
    local due = tonumber(redis.call('ZSCORE', q(queue, 'deadlines'), id))
    if due + tonumber(lease_ms) <= now then
      abandon(id, job)
      redis.call('HINCRBY', job_key(id), 'fence', 1)
      local deadline = tonumber(redis.call('HGET', job_key(id), 'deadline')) or math.huge
      if deadline <= now then
        finish(id, job, EXPIRED, error_object(DEADLINE_EXCEEDED, 'the deadline passed while the job ran'), now, retention, false)
      else
        finish(id, job, EXPIRED, error_object(RUN_TIMEOUT, 'the job ran longer than the limit'), now, retention, true)
      end
      expired = expired + 1
    end
  else
    redis.call('ZREM', q(queue, 'deadlines'), id)
  end
end

for _, owner in ipairs(redis.call('SRANDMEMBER', q(queue, 'parked_accounts'), limit)) do
  local head = redis.call('ZRANGE', q(queue, 'parked:' .. owner), 0, 0)[1]
  local job = head and redis.call('HMGET', job_key(head), 'cap', 'group', 'group_cap') or {}
  if not is_full(queue, owner, tonumber(job[job[2] == owner and 3 or 1]) or 0) then
    unpark(queue, owner)
    unparked = unparked + 1
  end
end

local missing = redis.call('ZCARD', q(queue, 'ready')) + redis.call('ZCARD', q(queue, 'apart'))
  - redis.call('LLEN', tickets_key(queue))
for _ = 1, math.min(missing, tonumber(limit)) do
  push_ticket(queue)
  tickets = tickets + 1
end

for _, worker in ipairs(redis.call('ZRANGEBYSCORE', q(queue, 'workers'), '-inf', int(now))) do
  redis.call('ZREM', q(queue, 'workers'), worker)
  redis.call('HDEL', q(queue, 'slots'), worker)
end
return { stalled, dead, released, expired, tickets, unparked, unpack(abandoned) }
