-- Write one engine step: the new events of every job, and the end of those that ended.
-- Exactly once under retries: `after` is the seq that the worker wrote last, and an append that is
-- in the log already is acknowledged, not repeated. Only the holder of the current fence may write.
-- Takes RetentionArgs, then per job StepArgs, (type, data) per event, and EndingArgs:
-- the terminal status or '', error json or ''.
-- Returns per job: 'lost' | 'ok' | 'watched' | 'cancel' | 'finished'
local at, now = REST, now_ms()
local answers, frames, framed = {}, {}, {}

local function larger(known, new)
  return int(math.max(tonumber(known) or 0, tonumber(new)))
end

local function collect(name, id, item)
  if not frames[name] then frames[name], framed[name] = {}, {} end
  table.insert(frames[name], item)
  framed[name][id] = true
end

while at <= #ARGV do
  local id, fence, after, input, cached, output = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  local vectors = ARGV[at + 6]
  local count = tonumber(ARGV[at + 7])
  local first = at + 8
  local status, error_json = ARGV[first + 2 * count], ARGV[first + 2 * count + 1]
  at = first + 2 * count + 2
  local job = redis.call('HMGET', job_key(id), 'fence', 'status', 'seq', 'cancel', 'watch', 'input', 'cached')
  local seq = tonumber(job[3]) or -1
  local answer = 'lost'
  if job[1] == fence and job[2] == IN_PROGRESS then
    answer = 'ok'
    if seq == after then
      for i = 0, count - 1 do
        seq = seq + 1
        local kind, data = ARGV[first + 2 * i], ARGV[first + 2 * i + 1]
        redis.call('XADD', log_key(id), int(seq) .. '-0', 't', kind, 'd', data)
        if (job[5] or '') ~= '' then
          local item = frame_item(id, seq, kind, data)
          for _, name in ipairs(watchers(job[5])) do collect(name, id, item) end
        end
      end
      -- An attempt counts its prompt anew: usage never gets worse for the client by what happens inside.
      redis.call('HSET', job_key(id), 'seq', int(seq), 'input', larger(job[6], input), 'cached', larger(job[7], cached), 'output', output)
      if vectors ~= '0' then redis.call('HSET', job_key(id), 'vectors', vectors) end
    elseif seq ~= after + count then
      answer = 'lost'
    end
    if answer == 'ok' then
      if status ~= '' then
        -- The deltas must reach watchers before the event that ends the job.
        for name, items in pairs(frames) do publish(name, items) end
        frames, framed = {}, {}
        finish(id, record(id), status, error_json, now, retention, false)
        answer = 'finished'
      elseif (job[4] or '') ~= '' then answer = 'cancel'
      elseif (job[5] or '') ~= '' then answer = 'watched' end
    end
  elseif job[1] == fence and TERMINAL[job[2]] and status ~= '' then
    answer = 'finished'
  end
  answers[#answers + 1] = answer
end
for name, items in pairs(frames) do
  if publish(name, items) == 0 then
    for id in pairs(framed[name]) do forget_watcher(id, name) end
  end
end
return answers
