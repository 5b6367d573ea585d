-- The ledger has these outbox entries: acknowledge, remove, and start the jobs' retention.
-- ARGV: group, keep[4], entry ids. Returns how many.
local outbox, keep, done = P .. ':outbox', keep_from(2), 0
for at = 6, #ARGV do
  local entry = redis.call('XRANGE', outbox, ARGV[at], ARGV[at])[1]
  redis.call('XACK', outbox, ARGV[1], ARGV[at])
  if entry then
    local fields = {}
    for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
    redis.call('XDEL', outbox, ARGV[at])
    -- An entry that names no job was set aside.
    if keep.on_archive == '1' and fields.job and fields.account and redis.call('EXISTS', job_key(fields.job)) == 1 then
      local ttl = redis.call('ZSCORE', P .. ':dead', fields.job) and keep.dead_ttl_ms or keep.ttl_ms
      retain(fields.job, fields.account, ttl, keep.tombstone_ms)
    end
    done = done + 1
  end
end
return done
