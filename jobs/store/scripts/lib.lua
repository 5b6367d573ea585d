-- Definitions that the job scripts share; each script is sent with those it uses. Before them stand
-- `core/redis/base.lua`, the constants of `job_scripts.py` and `ticket(tag, queue)`.
-- A `job` is a table of FINISH_FIELDS; `retention` is a table of RetentionArgs.
local function job_key(id) return P .. ':job:' .. id end
local function log_key(id) return P .. ':log:' .. id end
local function account_dead_key(account) return P .. ':account:' .. account .. ':dead' end
local function q(queue, part) return P .. ':q:' .. queue .. ':' .. part end
local function tickets_key(queue) return P .. ':tickets:' .. queue end

local function push_ticket(queue)
  local t = time()
  local tag = int(redis.call('INCR', P .. ':ticket:seq')) .. '-' .. t[1] .. '-' .. t[2]
  redis.call('LPUSH', tickets_key(queue), ticket(tag, tickets_key(queue)))
end

local function make_ready(queue, id, score)
  redis.call('ZADD', q(queue, 'ready'), exact(score), id)
  push_ticket(queue)
end

-- A job that may have stopped a worker waits in a set of its own and is claimed alone; those with
-- less against them come first within a tier. `apart` says what may run beside it.
local function make_claimable(queue, id, score, apart)
  if apart == '' then return make_ready(queue, id, score) end
  local stops = redis.call('HMGET', job_key(id), 'kills', 'losses')
  score = score + (tonumber(stops[1]) or 0) + (tonumber(stops[2]) or 0)
  redis.call('ZADD', q(queue, 'apart'), exact(score), id)
  push_ticket(queue)
end

local function count(name, field, by)
  if redis.call('HINCRBY', name, field, by) <= 0 then redis.call('HDEL', name, field) end
end

-- A job counts for its account and, where its key has limits of its own, for its group:
-- "<account>/<key id>".
local function add_waiting(queue, account, group, by)
  local waiting = q(queue, 'waiting')
  redis.call('HINCRBY', waiting, '*', by)
  count(waiting, account, by)
  if group ~= '' then count(waiting, group, by) end
end

local function watchers(watch)
  local found = {}
  for name in string.gmatch(watch or '', '%S+') do found[#found + 1] = name end
  return found
end

local function frame_item(id, seq, kind, data)
  return '["' .. id .. '",' .. int(seq) .. ',"' .. kind .. '",' .. data .. ']'
end

-- Remove a watcher whose API process is gone.
local function forget_watcher(id, name)
  local kept = {}
  for _, other in ipairs(watchers(redis.call('HGET', job_key(id), 'watch') or '')) do
    if other ~= name then kept[#kept + 1] = other end
  end
  redis.call('HSET', job_key(id), 'watch', table.concat(kept, ' '))
end

local function publish(name, items)
  return redis.call('PUBLISH', P .. ':events:' .. name, '[' .. table.concat(items, ',') .. ']')
end

-- Append one event to a job's log and tell its watchers. `seq` is the job's last one.
local function emit(id, seq, watch, kind, data)
  seq = seq + 1
  redis.call('XADD', log_key(id), int(seq) .. '-0', 't', kind, 'd', data)
  redis.call('HSET', job_key(id), 'seq', int(seq))
  for _, name in ipairs(watchers(watch)) do
    if publish(name, { frame_item(id, seq, kind, data) }) == 0 then forget_watcher(id, name) end
  end
  return seq
end

-- The spending of a month is kept for a few days after it. A reservation has no month: it counts
-- against the month in which its job ends. A balance is "<account>:<currency>".
local SPENDING_MS = 35 * 86400000
local function spend_key(balance, month) return P .. ':spend:' .. balance .. ':' .. month end
local function held_key(balance) return P .. ':held:' .. balance end

-- A stored reservation is "<balance> <nanos> <scope> <scope> ...".
local function reserve(id, balance, nanos, scopes)
  for _, scope in ipairs(scopes) do redis.call('HINCRBY', held_key(balance), scope, nanos) end
  redis.call('HSET', P .. ':holds', id, balance .. ' ' .. nanos .. ' ' .. table.concat(scopes, ' '))
end

local function release_reservation(id)
  local stored = redis.call('HGET', P .. ':holds', id)
  if not stored then return end
  local balance, nanos, scopes = string.match(stored, '^(%S+) (%S+) (.+)$')
  local held = held_key(balance)
  local less = nanos == '0' and nanos or '-' .. nanos  -- '-0' is no number to Redis
  for scope in string.gmatch(scopes, '%S+') do
    if redis.call('HINCRBY', held, scope, less) <= 0 then redis.call('HDEL', held, scope) end
  end
  redis.call('HDEL', P .. ':holds', id)
  redis.call('HDEL', P .. ':holds:missed', id)
end

-- Whether an account or a group runs as many jobs as its cap allows; a cap of 0 is none.
local function is_full(queue, owner, cap)
  return cap > 0 and (tonumber(redis.call('HGET', q(queue, 'running_by'), owner)) or 0) >= cap
end

local function forget_parked(queue, owner)
  if redis.call('EXISTS', q(queue, 'parked:' .. owner)) == 0 then
    redis.call('SREM', q(queue, 'parked_accounts'), owner)
  end
end

-- Make one parked job of this account or group ready again.
local function unpark(queue, owner)
  local head = redis.call('ZPOPMIN', q(queue, 'parked:' .. owner))
  if head[1] then make_ready(queue, head[1], tonumber(head[2])) end
  forget_parked(queue, owner)
end

local function leave_running(queue, account, group, id, apart)
  if apart ~= '' then redis.call('SREM', q(queue, 'lone'), id) end
  if redis.call('ZREM', q(queue, 'running'), id) == 1 then
    count(q(queue, 'running_by'), account, -1)
    if group ~= '' then
      count(q(queue, 'running_by'), group, -1)
      unpark(queue, group)
    end
    unpark(queue, account)
  end
end

local function leave_waiting(queue, account, group, id)
  local gone = redis.call('ZREM', q(queue, 'ready'), id)
    + redis.call('ZREM', q(queue, 'delayed'), id)
    + redis.call('ZREM', q(queue, 'apart'), id)
  if gone == 0 then
    redis.call('ZREM', q(queue, 'parked:' .. account), id)
    forget_parked(queue, account)
    if group ~= '' then
      redis.call('ZREM', q(queue, 'parked:' .. group), id)
      forget_parked(queue, group)
    end
  end
  add_waiting(queue, account, group, -1)
end

-- Rate limits use the generic cell rate algorithm (ITU-T I.371; ATM Forum TM 4.0, 4.4.2) in its
-- form of a continuous-state leaky bucket. A bucket holds a burst, given as the milliseconds in
-- which it drains, and drains evenly. Its level is counted in 1/60000 of a request or token: a limit
-- of n per minute drains n of these per millisecond, so every number is whole and none is rounded.
-- `scope` is a key's id, '*' for the whole account, or a client address, which belongs to no account.
local function rate_key(account, scope, kind)
  local owner = string.sub(scope, 1, 1) == ADDRESS and '' or account
  return P .. ':rate:' .. owner .. ':' .. scope .. ':' .. kind
end

local function level(bucket, limit, now)
  local kept = redis.call('HMGET', bucket, 'level', 'at')
  if not kept[1] then return 0 end
  local at = tonumber(kept[2])
  if at > now then
    -- The clock was set back. Without this, the bucket would not drain until the clock catches up.
    redis.call('HSET', bucket, 'at', int(now))
    at = now
  end
  return math.max(0, tonumber(kept[1]) - (now - at) * limit)
end

local function fill(bucket, to, limit, now)
  if to <= 0 then
    redis.call('DEL', bucket)
  else
    redis.call('HSET', bucket, 'level', int(to), 'at', int(now))
    redis.call('PEXPIRE', bucket, int(math.ceil(to / limit) + RATE_PARTS))
  end
end

-- Jobs that failed while they ran fill a bucket of their account. It holds a minute's worth, and at
-- most another one, so that an account is slowed and never shut out. `finish` does not know the
-- limit, so it only counts, and the next submission pours the count into the bucket. A job that stopped
-- its workers fills the bucket.
local FAILURES_KEPT_MS = 180000
local function count_failure(account, poison)
  local bucket = rate_key(account, ACCOUNT, 'failures')
  if poison then redis.call('HSET', bucket, 'full', 1) else redis.call('HINCRBY', bucket, 'new', 1) end
  redis.call('PEXPIRE', bucket, FAILURES_KEPT_MS)
end

-- Milliseconds until the account may submit again; 0 if it may now.
local function failure_wait(account, limit, now)
  local bucket = rate_key(account, ACCOUNT, 'failures')
  local kept = redis.call('HMGET', bucket, 'level', 'new', 'full')
  if limit == 0 or not (kept[1] or kept[2] or kept[3]) then return 0 end
  local whole = limit * RATE_PARTS
  local filled = level(bucket, limit, now) + (tonumber(kept[2]) or 0) * RATE_PARTS
  if kept[3] then filled = math.max(filled, whole + RATE_PARTS) end
  filled = math.min(filled, 2 * whole)
  redis.call('HDEL', bucket, 'new', 'full')
  redis.call('HSET', bucket, 'level', int(filled), 'at', int(now))
  redis.call('PEXPIRE', bucket, FAILURES_KEPT_MS)
  return math.max(0, math.ceil((filled - whole) / limit))
end

-- When a job ends, replace its estimated tokens by the tokens it used, in every token bucket.
-- `rated` is "<estimate> <limit> <scope> <limit> <scope> ...".
local function settle_rates(account, rated, used, now)
  local estimate, rest = string.match(rated, '^(%d+)(.*)$')
  for limit, scope in string.gmatch(rest, '(%d+) (%S+)') do
    local bucket, per_ms = rate_key(account, scope, 'tokens'), tonumber(limit)
    local more = (used - tonumber(estimate)) * RATE_PARTS
    fill(bucket, level(bucket, per_ms, now) + more, per_ms, now)
  end
end

-- Update the exponentially weighted mean and mean square of service times, as RFC 6298 does.
local function learn_service(queue, run_ms)
  local key = q(queue, 'service')
  local old = redis.call('HMGET', key, 'n', 'mean', 'square')
  local n = tonumber(old[1]) or 0
  local alpha = math.max(0.02, 1 / (n + 1))
  local mean = (tonumber(old[2]) or 0) * (1 - alpha) + run_ms * alpha
  local square = (tonumber(old[3]) or 0) * (1 - alpha) + run_ms * run_ms * alpha
  redis.call('HSET', key, 'n', int(n + 1), 'mean', exact(mean), 'square', exact(square))
end

-- Keep a finished job for `ttl_ms`, and its tombstone for `tombstone_ms` more.
local function retain(id, account, ttl_ms, tombstone_ms)
  redis.call('PEXPIRE', job_key(id), int(ttl_ms))
  redis.call('PEXPIRE', log_key(id), int(ttl_ms))
  redis.call('SET', P .. ':gone:' .. id, account, 'PX', int(ttl_ms + tombstone_ms))
  redis.call('ZADD', P .. ':purge', int(now_ms() + ttl_ms), account .. ' ' .. id)
end

local function leave_dead_letters(id, account)
  redis.call('ZREM', P .. ':dead', id)
  redis.call('ZREM', account_dead_key(account), id)
end

local FINISH_FIELDS = {
  'status', 'account', 'queue', 'seq', 'watch', 'input', 'cached', 'output', 'claimed', 'created',
  'started', 'attempt', 'tier', 'worker', 'run_ms', 'key_id', 'failures', 'group', 'rated', 'apart',
  'weights', 'vectors',
}

local function record(id)
  local values = redis.call('HMGET', job_key(id), unpack(FINISH_FIELDS))
  local job = {}
  for i, field in ipairs(FINISH_FIELDS) do job[field] = values[i] or '' end
  return job
end

-- End a job: the only way into a terminal status. Writes the status, the last event, the usage to
-- the outbox and starts the retention; `dead_letter` adds the job to the dead-letter list.
local function finish(id, job, status, error_json, now, retention, dead_letter)
  local queue, account = job.queue, job.account
  local run_ms = tonumber(job.run_ms) or 0
  if job.status == IN_PROGRESS then
    leave_running(queue, account, job.group, id, job.apart)
    if status == FAILED then count_failure(account, string.find(error_json, '"code":"' .. POISON_JOB .. '"', 1, true)) end
    local attempt_ms = now - tonumber(job.claimed)
    run_ms = run_ms + attempt_ms
    if status == COMPLETED then learn_service(queue, attempt_ms) end
  else
    leave_waiting(queue, account, job.group, id)
  end
  redis.call('ZREM', q(queue, 'deadlines'), id)
  local input, cached, output = tonumber(job.input) or 0, tonumber(job.cached) or 0, tonumber(job.output) or 0
  redis.call('HSET', job_key(id), 'status', status, 'finished', int(now), 'error', error_json,
    'worker', '', 'run_ms', int(run_ms))
  local usage = '{"input_tokens":' .. int(input) .. ',"cached_input_tokens":' .. int(cached)
    .. ',"output_tokens":' .. int(output)
  local vectors = tonumber(job.vectors) or 0
  if vectors > 0 then usage = usage .. ',"vectors":' .. int(vectors) end
  usage = usage .. '}'
  local last = emit(id, tonumber(job.seq) or 0, job.watch, EVENT_FINISHED, '{"status":"' .. status .. '","usage":'
    .. usage .. ',"error":' .. (error_json == '' and 'null' or error_json)
    .. ',"finished_at":' .. string.format('%.14g', now / 1000) .. '}')
  redis.call('XADD', P .. ':outbox', '*', 'job', id, 'account', account, 'key_id', job.key_id,
    'model', queue, 'tier', job.tier, 'status', status, 'input', int(input), 'cached', int(cached),
    'output', int(output), 'created', job.created, 'started', job.started, 'finished', int(now),
    'run_ms', int(run_ms), 'attempt', job.attempt, 'seq', int(last), 'weights', job.weights,
    'vectors', int(vectors))
  redis.call('HINCRBY', P .. ':totals', status, 1)
  if job.rated ~= '' then settle_rates(account, job.rated, input + output, now) end
  local ttl = retention.ttl_ms
  if dead_letter then
    redis.call('ZADD', P .. ':dead', int(now), id)
    redis.call('ZADD', account_dead_key(account), int(now), id)
    ttl = retention.dead_ttl_ms
  end
  if retention.starts_at_archive ~= '1' then retain(id, account, ttl, retention.tombstone_ms) end
end

-- An error as `PipelineError.as_dict` writes it.
local function error_object(code, message)
  return '{"code":"' .. code .. '","message":"' .. message .. '","param":null}'
end

-- Give a running job back to its queue and keep its log. Returns the status that it has then:
-- queued, cancelled or failed. A `counted` failure counts towards `max_attempts`; a job that a
-- worker gives back while it drains goes to the front and is not counted. `apart` is how it runs next.
local function requeue_job(id, job, error_json, delay_ms, counted, max_attempts, now, retention, apart)
  local head = redis.call('HMGET', job_key(id), 'cancel', 'score', 'deadline', 'tier')
  if (head[1] or '') ~= '' then
    finish(id, job, CANCELLED, '', now, retention, false)
    return CANCELLED
  end
  local failures = tonumber(job.failures) or 0
  if counted then failures = failures + 1 end
  if counted and failures >= max_attempts then
    redis.call('HSET', job_key(id), 'failures', int(failures))
    finish(id, job, FAILED, error_json, now, retention, true)
    return FAILED
  end
  leave_running(job.queue, job.account, job.group, id, job.apart)
  add_waiting(job.queue, job.account, job.group, 1)
  local run_ms = (tonumber(job.run_ms) or 0) + now - tonumber(job.claimed)
  redis.call('HSET', job_key(id), 'status', QUEUED, 'worker', '', 'failures', int(failures),
    'queued', int(now), 'run_ms', int(run_ms), 'apart', apart)
  redis.call('ZREM', q(job.queue, 'deadlines'), id)
  if (head[3] or '') ~= '' then redis.call('ZADD', q(job.queue, 'deadlines'), head[3], id) end
  local score = tonumber(head[2])
  if not counted then score = tonumber(head[4]) * TIER_SPAN end
  if delay_ms > 0 then
    redis.call('HSET', job_key(id), 'score', exact(score))
    redis.call('ZADD', q(job.queue, 'delayed'), int(now + delay_ms), id)
  else
    make_claimable(job.queue, id, score, apart)
  end
  return QUEUED
end

-- What is held against a running job. Output in this attempt clears it of what it was suspected of,
-- unless it was present at so many stops that it runs alone to its end.
local function held_against(id, seq)
  local found = redis.call('HMGET', job_key(id), 'apart', 'lone', 'deaths', 'kills', 'losses', 'claim_seq', 'cancel')
  local case = {
    apart = found[1] or '', lone = found[2] == '1', deaths = tonumber(found[3]) or 0,
    kills = tonumber(found[4]) or 0, losses = tonumber(found[5]) or 0,
    begun = (tonumber(seq) or 0) > (tonumber(found[6]) or 0), cancelled = (found[7] or '') ~= '',
  }
  if case.begun and case.apart ~= '' and case.apart ~= APART_WHOLE then
    case.apart, case.kills, case.losses = '', 0, 0
    redis.call('HSET', job_key(id), 'kills', 0, 'losses', 0)
  end
  return case
end

-- Give a job back after its worker stopped; no attempt is counted. A job without output in this
-- attempt is suspected: it runs apart next, and alone after a second stop. One with output that was
-- present at `max_deaths` stops runs alone to its end. Only stops at which it ran alone convict it:
-- `max_kills` of which the worker saw its engine fail, or `max_lone_stops` of any cause.
-- Returns the status that it has then.
local function after_worker_stop(id, job, engine_failed, limits, now, retention)
  local case = held_against(id, job.seq)
  if case.begun then case.deaths = case.deaths + 1 end
  local alone = case.apart ~= '' and case.lone
  if alone and engine_failed then case.kills = case.kills + 1 end
  if alone and not engine_failed then case.losses = case.losses + 1 end
  if not case.begun or case.apart == APART_WHOLE then redis.call('HINCRBY', P .. ':totals', 'suspected', 1) end
  redis.call('HSET', job_key(id), 'deaths', case.deaths, 'kills', case.kills, 'losses', case.losses)
  local guilty = case.kills >= tonumber(limits.max_kills) or case.kills + case.losses >= tonumber(limits.max_lone_stops)
  if alone and guilty and not case.cancelled then
    redis.call('HINCRBY', P .. ':totals', 'poisoned', 1)
    finish(id, job, FAILED, error_object(POISON_JOB, 'the job stopped its workers while it ran alone'), now, retention, true)
    return FAILED
  end
  redis.call('HINCRBY', P .. ':totals', 'given_back', 1)
  local apart = ''
  if case.apart == APART_WHOLE or case.deaths >= tonumber(limits.max_deaths) then apart = APART_WHOLE
  elseif not case.begun then apart = case.apart == '' and APART_START or APART_ALONE end
  return requeue_job(id, job, '', 0, false, 0, now, retention, apart)
end
