-- Give up to `limit` jobs to a worker: the next in order, without expired and capped ones.
-- A job that may have stopped a worker is given alone, to a worker as `occupancy` allows.
-- Takes ClaimArgs, then RetentionArgs. Returns {} while the queue is paused or closed, {'held', what it may run}
-- if the worker must claim nothing until it can take such a job, else a row per job:
-- ClaimedRow: id, fence, attempt, spec, seq, output_tokens, input_tokens, watched, run_deadline, now, account, created, body, queued, apart
local most = tonumber(limit)
local ready, fair, running = q(queue, 'ready'), q(queue, 'fair'), q(queue, 'running')
local mode = redis.call('HGET', q(queue, 'mode'), 'mode')
if mode == MODE_PAUSED or mode == MODE_CLOSED then return {} end
local now = now_ms()
local since_aged = tonumber(redis.call('HGET', fair, 'since_aged')) or 0

-- Ageing: once in `ageing_every` claims, the head of a lower tier goes first if it waited too long.
local function oldest_below(head_tier)
  local oldest, best
  for tier = head_tier + 1, TIERS - 1 do
    local low = redis.call('ZRANGEBYSCORE', ready, exact(tier * TIER_SPAN), '(' .. exact((tier + 1) * TIER_SPAN), 'LIMIT', 0, 1)
    if low[1] then
      local queued = tonumber(redis.call('HGET', job_key(low[1]), 'queued')) or now
      if now - queued >= tonumber(ageing_ms) and (not oldest or queued < oldest) then oldest, best = queued, low[1] end
    end
  end
  return best
end

local function choose()
  local head = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')
  if not head[1] then return nil end
  since_aged = since_aged + 1
  if since_aged >= tonumber(ageing_every) then
    local old = oldest_below(math.floor(tonumber(head[2]) / TIER_SPAN))
    if old then since_aged = 0 return old, true end
  end
  return head[1]
end

local function start(id)
  local job = redis.call('HMGET', job_key(id), 'account', 'tier', 'virtual_start', 'fence', 'failures', 'spec', 'seq',
    'output', 'input', 'watch', 'deadline', 'started', 'created', 'body', 'group', 'queued', 'apart')
  local account, tier, group = job[1], job[2], job[15] or ''
  local fence, attempt = tonumber(job[4]) + 1, tonumber(job[5]) + 1
  local v = 'v:' .. tier
  local clock = math.max(tonumber(redis.call('HGET', fair, v)) or 0, tonumber(job[3]))
  redis.call('HSET', fair, v, exact(clock))
  add_waiting(queue, account, group, -1)
  redis.call('HINCRBY', q(queue, 'running_by'), account, 1)
  if group ~= '' then redis.call('HINCRBY', q(queue, 'running_by'), group, 1) end
  redis.call('ZADD', running, int(now + lease_ms), id)
  local due = math.min(now + run_ms, tonumber(job[11]) or math.huge)
  redis.call('ZADD', q(queue, 'deadlines'), int(due), id)
  local started = job[12] or ''
  if started == '' then started = int(now) end
  redis.call('HSET', job_key(id), 'status', IN_PROGRESS, 'fence', int(fence), 'attempt', int(attempt),
    'worker', worker, 'weights', weights, 'claimed', int(now), 'started', started, 'claim_seq', int(tonumber(job[7]) + 1))
  local seq = emit(id, tonumber(job[7]), job[10], EVENT_STARTED, '{"attempt":' .. int(attempt) .. '}')
  return { id, int(fence), int(attempt), job[6], int(seq), job[8] or '0', job[9] or '', job[10] == '' and '0' or '1',
    int(due), int(now), account, job[13], job[14], job[16], job[17] or '' }
end

local function park(owner, score, id)
  redis.call('ZADD', q(queue, 'parked:' .. owner), score, id)
  redis.call('SADD', q(queue, 'parked_accounts'), owner)
end

-- The earlier of a job's limits in time that hold now.
local function due_of(start_by, deadline, started)
  local due = tonumber(deadline) or math.huge
  if (started or '') == '' then due = math.min(due, tonumber(start_by) or math.huge) end
  return due
end

-- At most this share of the workers, and at least one, runs a job apart at a time.
local apart, lone, holder = q(queue, 'apart'), q(queue, 'lone'), q(queue, 'holder')
local function share_is_used()
  local used = 0
  for _, id in ipairs(redis.call('SMEMBERS', lone)) do
    local job = redis.call('HMGET', job_key(id), 'status', 'apart', 'seq', 'claim_seq')
    local cleared = job[2] ~= APART_WHOLE and (tonumber(job[3]) or 0) > (tonumber(job[4]) or 0)
    if job[1] ~= IN_PROGRESS or cleared then redis.call('SREM', lone, id) else used = used + 1 end
  end
  local workers = redis.call('ZCOUNT', q(queue, 'workers'), '(' .. int(now), '+inf')
  return used >= math.max(1, math.floor(workers * tonumber(apart_share)))
end

-- A suspected job waits for a worker that runs nothing. After `apart_wait_ms` the first worker that
-- asks stops claiming for it: until all its jobs gave output, or until it runs nothing if the
-- suspected job must be alone. So it waits for a bounded time, and every second claim is for the others.
local function claim_apart()
  local waiting = redis.call('ZRANGE', apart, 0, 15)
  if not waiting[1] then return nil end
  if redis.call('HGET', fair, 'others_next') == '1' and redis.call('EXISTS', ready) == 1 then return nil end
  if share_is_used() then return nil end
  for _, id in ipairs(waiting) do
    local job = redis.call('HMGET', job_key(id), 'status', 'account', 'cap', 'start_by', 'deadline', 'started', 'group',
      'group_cap', 'apart', 'queued')
    local group = job[7] or ''
    if job[1] ~= QUEUED then
      redis.call('ZREM', apart, id)
      redis.call('HINCRBY', P .. ':totals', 'orphaned', 1)
    elseif due_of(job[4], job[5], job[6]) <= now then
      finish(id, record(id), EXPIRED, error_object(DEADLINE_EXCEEDED, 'the job did not start in time'), now, retention, false)
    elseif not is_full(queue, job[2], tonumber(job[3]) or 0)
      and not (group ~= '' and is_full(queue, group, tonumber(job[8]) or 0)) then
      local overdue = now - (tonumber(job[10]) or now) >= tonumber(apart_wait_ms)
      local joins = overdue and job[9] == APART_START and occupancy == OCCUPANCY_BEGUN
      if occupancy == OCCUPANCY_EMPTY or joins then
        redis.call('ZREM', apart, id)
        redis.call('DEL', holder)
        redis.call('SADD', lone, id)
        redis.call('HSET', fair, 'others_next', '1')
        redis.call('HSET', job_key(id), 'lone', joins and '0' or '1')
        return { start(id) }
      end
      local holds = redis.call('GET', holder) or worker
      if overdue and holds == worker then
        redis.call('SET', holder, worker, 'PX', lease_ms)
        return { 'held', job[9] == APART_START and OCCUPANCY_BEGUN or OCCUPANCY_EMPTY }
      end
    end
  end
end

-- A job at the head that never started, and whose account's jobs used more than estimated since it
-- was put in order, goes back by as much. Returns whether it did. A claim moves a bounded number of jobs.
local moves_left = most * 4 + 64
local function move_back(id, score, account, tier, owed_then)
  if not owed_then or moves_left <= 0 then return false end
  local owed = tonumber(redis.call('HGET', fair, share_field('d', tier, account))) or 0
  local more = owed - tonumber(owed_then)
  if more <= 0 then return false end
  moves_left = moves_left - 1
  local kept = redis.call('HMGET', job_key(id), 'score', 'virtual_start')
  redis.call('HSET', job_key(id), 'owed', exact(owed), 'score', exact(tonumber(kept[1]) + more),
    'virtual_start', exact(tonumber(kept[2]) + more))
  redis.call('ZADD', ready, exact(tonumber(score) + more), id)
  return true
end

local alone = most > 0 and claim_apart()
if alone then return alone end

local claimed = {}
local tries = most * 4 + 64
while tries > 0 and #claimed < most do
  local id, aged = choose()
  if not id then break end
  local score = redis.call('ZSCORE', ready, id)
  redis.call('ZREM', ready, id)
  local job = redis.call('HMGET', job_key(id), 'status', 'account', 'cap', 'start_by', 'deadline', 'started', 'group', 'group_cap',
    'tier', 'owed')
  local due = due_of(job[4], job[5], job[6])
  local account, group = job[2], job[7] or ''
  if job[1] ~= QUEUED then
    -- The record was lost with the tail of the append-only file, so there is nothing to run.
    redis.call('HINCRBY', P .. ':totals', 'orphaned', 1)
  elseif due <= now then
    finish(id, record(id), EXPIRED, error_object(DEADLINE_EXCEEDED, 'the job did not start in time'), now, retention, false)
  elseif not aged and (job[6] or '') == '' and move_back(id, score, account, job[9], job[10]) then
    -- Moving a job takes no try and no turn towards ageing.
    tries, since_aged = tries + 1, since_aged - 1
  elseif is_full(queue, account, tonumber(job[3]) or 0) then
    park(account, score, id)
  elseif group ~= '' and is_full(queue, group, tonumber(job[8]) or 0) then
    park(group, score, id)
    -- The account itself has room, so a parked job of another of its keys may run.
    unpark(queue, account)
  else
    claimed[#claimed + 1] = start(id)
  end
  tries = tries - 1
end
redis.call('HSET', fair, 'since_aged', int(since_aged), 'others_next', '0')
return claimed
