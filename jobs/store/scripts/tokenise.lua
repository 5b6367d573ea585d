-- Send a request to a model's tokeniser, within the rates of its caller. Takes TokeniseArgs.
-- Only rates of requests count. `quota_json` is as in submit.lua.
-- Returns {ACCEPTED}, {NO_TOKENISER}, {QUEUE_FULL} or {RATE_LIMITED, index of the rate, wait ms, level per rate}.
local now = now_ms()
if redis.call('EXISTS', q(queue, 'tokenisers')) == 0 then return { NO_TOKENISER } end
if redis.call('LLEN', q(queue, 'tokenise')) >= tonumber(max_waiting) then return { QUEUE_FULL } end

local rates = quota_json ~= '' and cjson.decode(quota_json).rates or {}
local levels, slowest, longest = {}, nil, 0
for i, rate in ipairs(rates) do
  levels[i] = level(rate_key(account, rate[1], rate[2]), rate[3], now)
  if rate[2] == 'requests' then
    local wait = math.ceil((levels[i] + RATE_PARTS) / rate[3]) - rate[4]
    if wait > longest then slowest, longest = i, wait end
  end
end
if slowest then
  local answer = { RATE_LIMITED, int(slowest), int(longest) }
  for i, found in ipairs(levels) do answer[3 + i] = int(found) end
  return answer
end

for i, rate in ipairs(rates) do
  if rate[2] == 'requests' then
    fill(rate_key(account, rate[1], rate[2]), levels[i] + RATE_PARTS, rate[3], now)
  end
end
redis.call('LPUSH', q(queue, 'tokenise'), request)
redis.call('PEXPIRE', q(queue, 'tokenise'), expire_ms)
return { ACCEPTED }
