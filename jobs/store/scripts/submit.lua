-- Accept a job: idempotency, bounds, rates, budgets, record, place in the order, ticket. All or nothing.
-- ARGV: id, account, queue, tier, cost, weight, spec, idempotency key, body hash, idempotency ms,
--       max queued, max per account, start_by ms, deadline ms, cap, watcher, key id, body,
--       quota json or '', most jobs ahead or '', lock or '', its holder,
--       then for a hold: purse, month, nanos, (scope, limit or '') per scope
-- A quota is {group or '', running, queued, rates}, each rate {scope, 'requests' | 'tokens', limit}.
-- Returns {'accepted' | 'replayed', id, created ms, level per rate}, {'mismatch', id},
--       {'lock-lost'}, {'past', 'start_by' | 'deadline'}, {'draining'},
--       {'queue-full' | 'account-full' | 'key-full' | 'long-wait', how many too many},
--       {'rate-limited', which, wait ms or -1 for never, level per rate},
--       {'over-budget', scope, nanos left} or {'spending-unknown'}
local id, account, queue, tier = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = now_ms()
local quota = ARGV[19] ~= '' and cjson.decode(ARGV[19])
local rates = quota and quota.rates or {}
local levels, needs, rated = {}, {}, ''

local function with_levels(answer)
  for i, rate in ipairs(rates) do
    levels[i] = levels[i] or level(rate_key(account, rate[1], rate[2]), rate[3], now)
    answer[#answer + 1] = int(levels[i])
  end
  return answer
end

-- A repeat of what was accepted is answered as the first was, however late it comes, and free.
local known = redis.call('HGET', job_key(id), 'created')
if known then return with_levels({ 'accepted', id, known }) end
-- Who submits what another may have given up since has to hold the lock at this very moment.
if ARGV[21] ~= '' and redis.call('GET', P .. ':lock:' .. ARGV[21]) ~= ARGV[22] then return { 'lock-lost' } end
local idempotency = P .. ':idempotency:' .. account .. ':' .. ARGV[8]
if ARGV[8] ~= '' then
  local seen = redis.call('GET', idempotency)
  if seen then
    local hash, first = string.match(seen, '^(%S+) (%S+)$')
    if hash ~= ARGV[9] then return { 'mismatch', first } end
    return with_levels({ 'replayed', first, '0' })
  end
end
local start_by, deadline = tonumber(ARGV[13]), tonumber(ARGV[14])
if start_by and start_by <= now then return { 'past', 'start_by' } end
if deadline and deadline <= now then return { 'past', 'deadline' } end
if redis.call('HGET', q(queue, 'mode'), 'mode') == 'draining' then return { 'draining' } end

local waiting = redis.call('HMGET', q(queue, 'waiting'), '*', account)
local all, own = (tonumber(waiting[1]) or 0) + 1, (tonumber(waiting[2]) or 0) + 1
if all > tonumber(ARGV[11]) then return { 'queue-full', int(all - ARGV[11]) } end
if own > tonumber(ARGV[12]) then return { 'account-full', int(own - ARGV[12]) } end
if ARGV[20] ~= '' then
  -- Parked jobs do not compete, and lower tiers come later.
  local ahead = redis.call('ZCOUNT', q(queue, 'ready'), '-inf', '(' .. exact((tier + 1) * TIER_SPAN))
  if ahead >= tonumber(ARGV[20]) then return { 'long-wait', int(ahead + 1 - ARGV[20]) } end
end
if quota and quota.queued > 0 then
  local its = (tonumber(redis.call('HGET', q(queue, 'waiting'), quota.group)) or 0) + 1
  if its > quota.queued then return { 'key-full', int(its - quota.queued) } end
end

-- All rates have room or none is touched; of those without, the one that takes longest is told.
local which, longest = nil, 0
for i, rate in ipairs(rates) do
  local units = 1
  if rate[2] == 'tokens' then
    units = tonumber(ARGV[5])
    rated = rated .. ' ' .. int(rate[3]) .. ' ' .. rate[1]
  end
  if units > rate[3] then return with_levels({ 'rate-limited', int(i), '-1' }) end
  levels[i] = level(rate_key(account, rate[1], rate[2]), rate[3], now)
  needs[i] = units * MINUTE
  local wait = math.ceil((levels[i] + needs[i]) / rate[3]) - MINUTE
  if wait > longest then which, longest = i, wait end
end
if which then return with_levels({ 'rate-limited', int(which), int(longest) }) end

local purse, nanos, scopes = ARGV[23], ARGV[25], {}
if purse then
  local spend = spend_key(purse, ARGV[24])
  if redis.call('HEXISTS', spend, '*') == 0 then return { 'spending-unknown' } end
  for i = 26, #ARGV, 2 do
    local scope, limit = ARGV[i], tonumber(ARGV[i + 1])
    local spent = tonumber(redis.call('HGET', spend, scope)) or 0
    local held = tonumber(redis.call('HGET', held_key(purse), scope)) or 0
    local left = limit and limit - spent - held
    if left and tonumber(nanos) > left then return { 'over-budget', scope, int(math.max(0, left)) } end
    scopes[#scopes + 1] = scope
  end
end

-- Nothing can be refused any more: from here on it is written.
local fair = q(queue, 'fair')
local tags = redis.call('HMGET', fair, 'v:' .. tier, 'f:' .. tier .. ':' .. account)
local start = math.max(tonumber(tags[1]) or 0, tonumber(tags[2]) or 0)
local tag = start + tonumber(ARGV[5]) / tonumber(ARGV[6])
local score = tier * TIER_SPAN + tag
redis.call('HSET', fair, 'f:' .. tier .. ':' .. account, exact(tag))

redis.call('HSET', job_key(id), 'spec', ARGV[7], 'body', ARGV[18], 'account', account, 'queue', queue,
  'tier', ARGV[4], 'status', 'queued', 'created', int(now), 'queued', int(now),
  'score', exact(score), 'virtual_start', exact(start), 'fence', '0', 'seq', '0', 'failures', '0',
  'start_by', ARGV[13], 'deadline', ARGV[14], 'cap', ARGV[15], 'watch', ARGV[16], 'key_id', ARGV[17])
redis.call('ZADD', P .. ':account:' .. account .. ':jobs', 0, id)
redis.call('HSET', q(queue, 'waiting'), '*', int(all), account, int(own))
if quota then
  if quota.group ~= '' then
    redis.call('HSET', job_key(id), 'group', quota.group, 'group_cap', int(quota.running))
    redis.call('HINCRBY', q(queue, 'waiting'), quota.group, 1)
  end
  for i, rate in ipairs(rates) do
    levels[i] = levels[i] + needs[i]
    fill(rate_key(account, rate[1], rate[2]), levels[i], rate[3], now)
  end
  if rated ~= '' then redis.call('HSET', job_key(id), 'rated', ARGV[5] .. rated) end
end
local due = math.min(start_by or math.huge, deadline or math.huge)
if due < math.huge then redis.call('ZADD', q(queue, 'deadlines'), int(due), id) end
if ARGV[8] ~= '' then redis.call('SET', idempotency, ARGV[9] .. ' ' .. id, 'PX', ARGV[10]) end
if purse then make_hold(id, purse, nanos, scopes) end
make_ready(queue, id, score)
return with_levels({ 'accepted', id, int(now) })
