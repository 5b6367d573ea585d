-- Take or keep a lock. ARGV: what, name, ms (0: let it go). Returns 1, or 0 when another has it.
local key = P .. ':lock:' .. ARGV[1]
local holder = redis.call('GET', key)
if holder and holder ~= ARGV[2] then return 0 end
if ARGV[3] == '0' then
  redis.call('DEL', key)
else
  redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
end
return 1
