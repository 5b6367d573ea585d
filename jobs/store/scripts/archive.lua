-- The ledger has these outbox entries: acknowledge, remove, and start the jobs' retention.
-- Commands that take many ids get many: what counts here is the number of calls.
-- ARGV: group, keep[4], entry ids. Returns how many.
local outbox, keep, done = P .. ':outbox', keep_from(2), 0
local some_dead = redis.call('EXISTS', P .. ':dead') == 1

-- An entry that names no job was set aside; a job may have been deleted meanwhile.
local function begin_retention(entry, purge)
  local fields = {}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  local id, account = fields.job, fields.account
  if not (id and account) then return end
  local ttl = keep.ttl_ms
  if some_dead and redis.call('ZSCORE', P .. ':dead', id) then ttl = keep.dead_ttl_ms end
  if redis.call('PEXPIRE', job_key(id), int(ttl)) == 1 then
    redis.call('PEXPIRE', log_key(id), int(ttl))
    redis.call('SET', P .. ':gone:' .. id, account, 'PX', int(ttl + keep.tombstone_ms))
    purge[#purge + 1] = int(now_ms() + ttl)
    purge[#purge + 1] = account .. ' ' .. id
  end
end

for first = 6, #ARGV, 1000 do
  local last, purge = math.min(first + 999, #ARGV), {}
  if keep.on_archive == '1' then
    for at = first, last do
      local entry = redis.call('XRANGE', outbox, ARGV[at], ARGV[at])[1]
      if entry then begin_retention(entry, purge) end
    end
    if #purge > 0 then redis.call('ZADD', P .. ':purge', unpack(purge)) end
  end
  redis.call('XACK', outbox, ARGV[1], unpack(ARGV, first, last))
  done = done + redis.call('XDEL', outbox, unpack(ARGV, first, last))
end
return done
