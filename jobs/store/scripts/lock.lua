-- Take, keep or (`ms` = 0) release a lock. Takes LockArgs. Returns 1, or 0 when another holds it.
local key = P .. ':lock:' .. lock
local current = redis.call('GET', key)
if current and current ~= holder then return 0 end
if ms == '0' then
  redis.call('DEL', key)
else
  redis.call('SET', key, holder, 'PX', ms)
end
return 1
