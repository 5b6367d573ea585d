-- Accept a job: idempotency, bounds, record, place in the order, ticket. All or nothing.
-- ARGV: id, account, queue, tier, cost, weight, spec, idempotency key, body hash, idempotency ms,
--       max queued, max per account, start_by ms, deadline ms, cap, watcher, key id, body,
--       then for a hold: purse, month, nanos, (scope, limit or '') per scope
-- Returns {'accepted' | 'replayed' | 'mismatch' | 'queue-full' | 'account-full', id, created ms},
--       {'past', 'start_by' | 'deadline'}, {'over-budget', scope, nanos left} or {'spending-unknown'}
local id, account, queue, tier = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local known = redis.call('HGET', job_key(id), 'created')
if known then return { 'accepted', id, known } end
local idempotency = P .. ':idempotency:' .. account .. ':' .. ARGV[8]
if ARGV[8] ~= '' then
  local seen = redis.call('GET', idempotency)
  if seen then
    local hash, first = string.match(seen, '^(%S+) (%S+)$')
    if hash ~= ARGV[9] then return { 'mismatch', first } end
    return { 'replayed', first }
  end
end
-- Only now: a repeat is answered as the first was, however late it comes.
local now, start_by, deadline = now_ms(), tonumber(ARGV[13]), tonumber(ARGV[14])
if start_by and start_by <= now then return { 'past', 'start_by' } end
if deadline and deadline <= now then return { 'past', 'deadline' } end
local waiting = redis.call('HMGET', q(queue, 'waiting'), '*', account)
local all, own = tonumber(waiting[1]) or 0, tonumber(waiting[2]) or 0
if all >= tonumber(ARGV[11]) then return { 'queue-full', '' } end
if own >= tonumber(ARGV[12]) then return { 'account-full', '' } end

local purse, nanos, scopes = ARGV[19], ARGV[21], {}
if purse then
  local spend = spend_key(purse, ARGV[20])
  if redis.call('HEXISTS', spend, '*') == 0 then return { 'spending-unknown' } end
  for i = 22, #ARGV, 2 do
    local scope, limit = ARGV[i], tonumber(ARGV[i + 1])
    local spent = tonumber(redis.call('HGET', spend, scope)) or 0
    local held = tonumber(redis.call('HGET', held_key(purse), scope)) or 0
    local left = limit and limit - spent - held
    if left and tonumber(nanos) > left then return { 'over-budget', scope, int(math.max(0, left)) } end
    scopes[#scopes + 1] = scope
  end
end

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
redis.call('HSET', q(queue, 'waiting'), '*', int(all + 1), account, int(own + 1))
local due = math.min(start_by or math.huge, deadline or math.huge)
if due < math.huge then redis.call('ZADD', q(queue, 'deadlines'), int(due), id) end
if ARGV[8] ~= '' then redis.call('SET', idempotency, ARGV[9] .. ' ' .. id, 'PX', ARGV[10]) end
if purse then make_hold(id, purse, nanos, scopes) end
make_ready(queue, id, score)
return { 'accepted', id, int(now) }
