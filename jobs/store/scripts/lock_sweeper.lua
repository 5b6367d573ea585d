-- Take or keep the sweeper's lock. ARGV: name, ms. Returns 1, or 0 when another has it.
local holder = redis.call('GET', P .. ':sweeper')
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', P .. ':sweeper', ARGV[1], 'PX', ARGV[2])
return 1
