-- Count an attempt to sign in against each of its limits, or against none (GCRA).
-- Takes (name, limit, period ms) per limit. Returns 0, or how many milliseconds to wait.
local now = now_ms()
local wait = 0
local next_at = {}
for i = 1, #ARGV, 3 do
  local limit, period = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local step = period / limit
  local at = math.max(tonumber(redis.call('GET', P .. ':signin:' .. ARGV[i]) or '0'), now) + step
  next_at[i] = at
  wait = math.max(wait, at - period - now)
end
if wait > 0 then return math.ceil(wait) end
for i = 1, #ARGV, 3 do
  redis.call('SET', P .. ':signin:' .. ARGV[i], exact(next_at[i]), 'PX', math.ceil(next_at[i] - now))
end
return 0
