-- Retire a model, or go on with a retirement that waits for jobs to end. Takes RetireArgs: `mark` is
-- JSON, or '' to go on; with `must_be_idle` "1" a queue that has jobs is left as it is.
-- Returns RetirementRow: state, waiting, running, workers
local retired = P .. ':retired'
local waiting = tonumber(redis.call('HGET', q(queue, 'waiting'), ACCOUNT)) or 0
local running = redis.call('ZCARD', q(queue, 'running'))
local workers = redis.call('ZCOUNT', q(queue, 'workers'), '(' .. int(now_ms()), '+inf')
local function answer(state) return { state, waiting, running, workers } end

local known = redis.call('SISMEMBER', P .. ':queues', queue) == 1
local marked = redis.call('HEXISTS', retired, queue) == 1
if not known then return answer(marked and RETIRED or UNKNOWN_MODEL) end
if not marked and mark == '' then return answer(SERVED) end
local idle = waiting + running == 0
if not idle and must_be_idle == '1' then return answer(MODEL_BUSY) end
if mark ~= '' then
  redis.call('HSET', retired, queue, mark)
  redis.call('HDEL', P .. ':models', queue)
  -- The mode stays behind, so that a submit that still knows the model is refused.
  redis.call('HSET', q(queue, 'mode'), 'mode', mode, 'by', set_by, 'at', int(now_ms()))
  for _, worker in ipairs(redis.call('ZRANGE', q(queue, 'workers'), 0, -1)) do
    redis.call('PUBLISH', P .. ':worker:' .. worker .. ':control', 'mode ' .. mode)
  end
end
if not idle then return answer(RETIRING) end
redis.call('SREM', P .. ':queues', queue)
redis.call('DEL', tickets_key(queue))
return answer(RETIRED)
