-- What one queue looks like now, for metrics. It only reads.
-- ARGV: queue, how many of the next in each tier are looked at for the oldest
-- Returns {running, delayed, parked, workers, slots, tickets, (ready, oldest ms or -1) per tier}
local queue, look = ARGV[1], tonumber(ARGV[2])
local ready, now = q(queue, 'ready'), now_ms()

-- An account's oldest waiting job is its next in the order of a tier, so the oldest of all is
-- among the next few: one for each account that waits.
local function tier_of(tier)
  local from, to = exact(tier * TIER_SPAN), '(' .. exact((tier + 1) * TIER_SPAN)
  local oldest = -1
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', ready, from, to, 'LIMIT', 0, look)) do
    local queued = tonumber(redis.call('HGET', job_key(id), 'queued')) or now
    oldest = math.max(oldest, now - queued)
  end
  return redis.call('ZCOUNT', ready, from, to), oldest
end

local waiting = tonumber(redis.call('HGET', q(queue, 'waiting'), '*')) or 0
local delayed = redis.call('ZCARD', q(queue, 'delayed'))
local slots = 0
for _, count in ipairs(redis.call('HVALS', q(queue, 'slots'))) do slots = slots + (tonumber(count) or 0) end
local found = {
  redis.call('ZCARD', q(queue, 'running')), delayed,
  math.max(0, waiting - delayed - redis.call('ZCARD', ready)),
  redis.call('ZCOUNT', q(queue, 'workers'), '(' .. int(now), '+inf'), slots,
  redis.call('LLEN', tickets_key(queue)),
}
for tier = 0, 2 do
  local count, oldest = tier_of(tier)
  found[#found + 1] = count
  found[#found + 1] = oldest
end
return found
