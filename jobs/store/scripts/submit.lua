-- Accept a job: idempotency, bounds, rate limits, budgets, record, order and ticket. All or nothing.
-- Takes SubmitArgs, then (scope, limit or '') per scope of the reservation, where there is one.
-- `quota_json` is '' or {group or '', running, queued, rates}, each rate
-- {scope, 'requests' | 'tokens', limit, burst ms}.
-- Returns {ACCEPTED | REPLAYED, id, created ms, level per rate}, {MISMATCH, id}, {LOCK_LOST},
--   {PAST, 'start_by' | 'deadline'}, {QUEUE_DRAINING},
--   {QUEUE_FULL | ACCOUNT_FULL | KEY_FULL | LONG_WAIT, how many jobs too many},
--   {FAILING, the limit, wait ms}, {RATE_LIMITED, index of the rate, wait ms or -1 for never, level per rate},
--   {OVER_BUDGET, scope, nanos left} or {SPENDING_UNKNOWN}
local tier_rank = tonumber(tier)
local now = now_ms()
local quota = quota_json ~= '' and cjson.decode(quota_json)
local rates = quota and quota.rates or {}
local levels, needs, rated = {}, {}, ''

local function with_levels(answer)
  for i, rate in ipairs(rates) do
    levels[i] = levels[i] or level(rate_key(account, rate[1], rate[2]), rate[3], now)
    answer[#answer + 1] = int(levels[i])
  end
  return answer
end

-- A repeated submit gets the answer of the first one and costs nothing, however late it comes.
local known = redis.call('HGET', job_key(job_id), 'created')
if known then return with_levels({ ACCEPTED, job_id, known }) end
-- The lock is checked in this same atomic step, so a submitter that lost it cannot submit.
if lock ~= '' and redis.call('GET', P .. ':lock:' .. lock) ~= lock_holder then return { LOCK_LOST } end
local idempotency = P .. ':idempotency:' .. account .. ':' .. idempotency_key
if idempotency_key ~= '' then
  local seen = redis.call('GET', idempotency)
  if seen then
    local hash, first = string.match(seen, '^(%S+) (%S+)$')
    if hash ~= body_hash then return { MISMATCH, first } end
    return with_levels({ REPLAYED, first, '0' })
  end
end
local start_by_ms, deadline_ms = tonumber(start_by), tonumber(deadline)
if start_by_ms and start_by_ms <= now then return { PAST, 'start_by' } end
if deadline_ms and deadline_ms <= now then return { PAST, 'deadline' } end
local mode = redis.call('HGET', q(queue, 'mode'), 'mode')
if mode == MODE_DRAINING or mode == MODE_CLOSED then return { QUEUE_DRAINING } end

local waiting = redis.call('HMGET', q(queue, 'waiting'), ACCOUNT, account)
local all, own = (tonumber(waiting[1]) or 0) + 1, (tonumber(waiting[2]) or 0) + 1
if all > tonumber(max_queued) then return { QUEUE_FULL, int(all - max_queued) } end
if own > tonumber(max_queued_per_account) then return { ACCOUNT_FULL, int(own - max_queued_per_account) } end
if max_ahead ~= '' then
  -- Parked jobs do not compete, and lower tiers come later.
  local ahead = redis.call('ZCOUNT', q(queue, 'ready'), '-inf', '(' .. exact((tier_rank + 1) * TIER_SPAN))
  if ahead >= tonumber(max_ahead) then return { LONG_WAIT, int(ahead + 1 - max_ahead) } end
end
if quota and quota.queued > 0 then
  local of_key = (tonumber(redis.call('HGET', q(queue, 'waiting'), quota.group)) or 0) + 1
  if of_key > quota.queued then return { KEY_FULL, int(of_key - quota.queued) } end
end

local too_soon = failure_wait(account, tonumber(max_failures), now)
if too_soon > 0 then return { FAILING, max_failures, int(too_soon) } end

-- Either every rate has room or none changes. Of those without room, report the longest wait.
local slowest, longest = nil, 0
for i, rate in ipairs(rates) do
  local units = 1
  if rate[2] == 'tokens' then
    units = tonumber(cost)
    rated = rated .. ' ' .. int(rate[3]) .. ' ' .. rate[1]
  end
  if units * RATE_PARTS > rate[3] * rate[4] then return with_levels({ RATE_LIMITED, int(i), '-1' }) end
  levels[i] = level(rate_key(account, rate[1], rate[2]), rate[3], now)
  needs[i] = units * RATE_PARTS
  local wait = math.ceil((levels[i] + needs[i]) / rate[3]) - rate[4]
  if wait > longest then slowest, longest = i, wait end
end
if slowest then return with_levels({ RATE_LIMITED, int(slowest), int(longest) }) end

local scopes = {}
if balance ~= '' then
  local spend = spend_key(balance, month)
  if redis.call('HEXISTS', spend, ACCOUNT) == 0 then return { SPENDING_UNKNOWN } end
  for i = REST, #ARGV, 2 do
    local scope, limit = ARGV[i], tonumber(ARGV[i + 1])
    local spent = tonumber(redis.call('HGET', spend, scope)) or 0
    local held = tonumber(redis.call('HGET', held_key(balance), scope)) or 0
    local left = limit and limit - spent - held
    if left and tonumber(nanos) > left then return { OVER_BUDGET, scope, int(math.max(0, left)) } end
    scopes[#scopes + 1] = scope
  end
end

-- All checks have passed; from here on the script writes.
local fair = q(queue, 'fair')
local finish_field, settled_field = share_field('f', tier, account), share_field('g', tier, account)
local credit_field = share_field('c', tier, account)
local tags = redis.call('HMGET', fair, 'v:' .. tier, finish_field, share_field('d', tier, account), settled_field,
  credit_field, 'm:' .. account)
local virtual, owed, credit = tonumber(tags[1]) or 0, tonumber(tags[3]) or 0, tonumber(tags[5]) or 0
local estimate = tonumber(cost)
if tags[6] then estimate = estimate + open_choices * (tonumber(tags[6]) - DEFAULT_OUTPUT_TOKENS) end
-- What the account's jobs used beyond their estimates since its last tag was written comes on top.
local last = (tonumber(tags[2]) or 0) + owed - (tonumber(tags[4]) or 0)
if own == 1 then
  -- No other job waits, so the whole credit counts at once and the account's order stays.
  last, credit = last - credit, 0
end
local start = math.max(virtual, last)
local share = estimate / tonumber(weight)
-- A credit is worth nothing to an account that is not behind. Tags of an account must rise.
local spent = last > virtual and math.min(credit, 0.9 * share) or 0
local left = last > virtual and credit - spent or 0
local tag = start + share - spent
local score = tier_rank * TIER_SPAN + tag
redis.call('HSET', fair, finish_field, exact(tag), settled_field, exact(owed), credit_field, exact(left))

redis.call('HSET', job_key(job_id), 'spec', spec, 'body', body, 'account', account, 'queue', queue,
  'tier', tier, 'status', QUEUED, 'created', int(now), 'queued', int(now),
  'score', exact(score), 'virtual_start', exact(start), 'fence', '0', 'seq', '0', 'failures', '0',
  'start_by', start_by, 'deadline', deadline, 'cap', max_running, 'watch', watcher, 'key_id', key_id,
  'owed', exact(owed), 'share', exact(estimate) .. ' ' .. weight .. ' ' .. open_choices .. ' ' .. fixed_cost)
redis.call('ZADD', P .. ':account:' .. account .. ':jobs', 0, job_id)
redis.call('HSET', q(queue, 'waiting'), ACCOUNT, int(all), account, int(own))
if quota then
  if quota.group ~= '' then
    redis.call('HSET', job_key(job_id), 'group', quota.group, 'group_cap', int(quota.running))
    redis.call('HINCRBY', q(queue, 'waiting'), quota.group, 1)
  end
  for i, rate in ipairs(rates) do
    levels[i] = levels[i] + needs[i]
    fill(rate_key(account, rate[1], rate[2]), levels[i], rate[3], now)
  end
  if rated ~= '' then redis.call('HSET', job_key(job_id), 'rated', cost .. rated) end
end
local due = math.min(start_by_ms or math.huge, deadline_ms or math.huge)
if due < math.huge then redis.call('ZADD', q(queue, 'deadlines'), int(due), job_id) end
if idempotency_key ~= '' then redis.call('SET', idempotency, body_hash .. ' ' .. job_id, 'PX', idempotency_ms) end
if balance ~= '' then reserve(job_id, balance, nanos, scopes) end
make_ready(queue, job_id, score)
return with_levels({ ACCEPTED, job_id, int(now) })
