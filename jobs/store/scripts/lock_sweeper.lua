-- Take or keep the sweeper's lock. Takes LockSweeperArgs. Returns 1, or 0 when another holds it.
local current = redis.call('GET', P .. ':sweeper')
if current and current ~= holder then return 0 end
redis.call('SET', P .. ':sweeper', holder, 'PX', ms)
return 1
