-- Take names out of the outbox's group that nobody uses any more. One that holds entries stays:
-- they would be in nobody's hands. One that comes back is put in again by Redis.
-- ARGV: group, idle ms. Returns how many.
local outbox, forgotten = P .. ':outbox', 0
local consumers = redis.pcall('XINFO', 'CONSUMERS', outbox, ARGV[1])
if consumers.err then return 0 end
for _, fields in ipairs(consumers) do
  local who = {}
  for i = 1, #fields, 2 do who[fields[i]] = fields[i + 1] end
  if who.pending == 0 and who.idle >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', outbox, ARGV[1], who.name)
    forgotten = forgotten + 1
  end
end
return forgotten
