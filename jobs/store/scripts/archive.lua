-- Remove outbox entries that the ledger has, and start the retention of their jobs.
-- Commands that take many ids are given many, because the number of calls is what costs time.
-- Takes ArchiveArgs and RetentionArgs, then entry ids. Returns how many were still there.
local outbox, done = P .. ':outbox', 0
local some_dead = redis.call('EXISTS', P .. ':dead') == 1

-- An unreadable entry names no job, and a job may have been deleted meanwhile.
local function begin_retention(entry, purge)
  local fields = {}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  local id, account = fields.job, fields.account
  if not (id and account) then return end
  local ttl = retention.ttl_ms
  if some_dead and redis.call('ZSCORE', P .. ':dead', id) then ttl = retention.dead_ttl_ms end
  if redis.call('PEXPIRE', job_key(id), int(ttl)) == 1 then
    redis.call('PEXPIRE', log_key(id), int(ttl))
    redis.call('SET', P .. ':gone:' .. id, account, 'PX', int(ttl + retention.tombstone_ms))
    purge[#purge + 1] = int(now_ms() + ttl)
    purge[#purge + 1] = account .. ' ' .. id
  end
end

for first = REST, #ARGV, 1000 do
  local last, purge = math.min(first + 999, #ARGV), {}
  if retention.starts_at_archive == '1' then
    for at = first, last do
      local entry = redis.call('XRANGE', outbox, ARGV[at], ARGV[at])[1]
      if entry then begin_retention(entry, purge) end
    end
    if #purge > 0 then redis.call('ZADD', P .. ':purge', unpack(purge)) end
  end
  redis.call('XACK', outbox, group, unpack(ARGV, first, last))
  done = done + redis.call('XDEL', outbox, unpack(ARGV, first, last))
end
return done
