-- Copy callers from SQL, unless the copy has changed since SQL was read.
-- ARGV: the generation it was read at, then pairs of field and record; an empty record is taken
-- away. Answers 1, or 0 when it must be read again.
local key = P .. ':callers'
local generation = redis.call('HGET', key, 'generation') or ''
if generation ~= ARGV[1] then return 0 end
if generation == '' then
  -- Not 0: a copy that was lost and begun again must not look like the old one.
  redis.call('HSET', key, 'generation', int(now_ms()))
else
  redis.call('HINCRBY', key, 'generation', 1)
end
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', key, ARGV[i])
  else
    redis.call('HSET', key, ARGV[i], ARGV[i + 1])
  end
end
return 1
