-- Find which of these jobs are not open any more. Takes job ids.
-- Returns a row per such job; the status is '' where there is no record:
-- EndedRow: job_id, status, last_seq
local ended = {}
for _, id in ipairs(ARGV) do
  local head = redis.call('HMGET', job_key(id), 'status', 'seq')
  if not head[1] or TERMINAL[head[1]] then
    ended[#ended + 1] = { id, head[1] or '', head[2] or '0' }
  end
end
return ended
