-- Remove idle consumers from the outbox's group. One that holds entries stays, because they would be
-- assigned to no consumer. Redis adds a consumer again when it comes back.
-- Takes ForgetConsumersArgs. Returns how many were removed.
local outbox, forgotten = P .. ':outbox', 0
local consumers = redis.pcall('XINFO', 'CONSUMERS', outbox, group)
if consumers.err then return 0 end
for _, fields in ipairs(consumers) do
  local consumer = {}
  for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
  if consumer.pending == 0 and consumer.idle >= tonumber(idle_ms) then
    redis.call('XGROUP', 'DELCONSUMER', outbox, group, consumer.name)
    forgotten = forgotten + 1
  end
end
return forgotten
