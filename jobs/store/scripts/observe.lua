-- Read the state of one queue for metrics. Takes ObserveArgs: `look_at` bounds how many jobs of each
-- tier are examined for the oldest.
-- Returns an ObservedRow, then (ready, oldest ms or -1) per tier:
-- ObservedRow: running, delayed, parked, apart, workers, slots, tickets, loading, mode
local ready, now = q(queue, 'ready'), now_ms()

-- The oldest waiting job of an account is its next one within a tier. So the oldest of all is among
-- the next jobs, one per account that waits.
local function look_into(tier)
  local from, to = exact(tier * TIER_SPAN), '(' .. exact((tier + 1) * TIER_SPAN)
  local oldest = -1
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', ready, from, to, 'LIMIT', 0, look_at)) do
    local queued = tonumber(redis.call('HGET', job_key(id), 'queued')) or now
    oldest = math.max(oldest, now - queued)
  end
  return redis.call('ZCOUNT', ready, from, to), oldest
end

local waiting = tonumber(redis.call('HGET', q(queue, 'waiting'), ACCOUNT)) or 0
local delayed, apart = redis.call('ZCARD', q(queue, 'delayed')), redis.call('ZCARD', q(queue, 'apart'))
local slots = 0
for _, count in ipairs(redis.call('HVALS', q(queue, 'slots'))) do slots = slots + (tonumber(count) or 0) end
local found = {
  redis.call('ZCARD', q(queue, 'running')), delayed,
  math.max(0, waiting - delayed - apart - redis.call('ZCARD', ready)), apart,
  redis.call('ZCOUNT', q(queue, 'workers'), '(' .. int(now), '+inf'), slots,
  redis.call('LLEN', tickets_key(queue)),
  redis.call('ZCOUNT', q(queue, 'loading'), '(' .. int(now), '+inf'),
  redis.call('HGET', q(queue, 'mode'), 'mode') or MODE_OPEN,
}
for tier = 0, TIERS - 1 do
  local count, oldest = look_into(tier)
  found[#found + 1] = count
  found[#found + 1] = oldest
end
return found
