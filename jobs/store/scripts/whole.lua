-- Every caller was compared with SQL. ARGV: what stood in `begun`; a copy that was lost meanwhile
-- has it no more, and is not whole.
local key = P .. ':callers'
if redis.call('HGET', key, 'begun') ~= ARGV[1] then return 0 end
redis.call('HSET', key, 'whole', '1')
return 1
