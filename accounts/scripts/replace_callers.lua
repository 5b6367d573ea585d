-- Copy caller records from SQL, unless the cache has changed since SQL was read.
-- Takes ReplaceCallersArgs, then (field, record) pairs; an empty record removes the field.
-- Returns 1, or 0 when SQL must be read again.
local key = P .. ':callers'
local current = redis.call('HGET', key, 'generation') or ''
if current ~= generation then return 0 end
if generation == '' then
  -- Not 0: a cache that was lost and started anew must not look like the old one.
  redis.call('HSET', key, 'generation', int(now_ms()))
else
  redis.call('HINCRBY', key, 'generation', 1)
end
for i = REST, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', key, ARGV[i])
  else
    redis.call('HSET', key, ARGV[i], ARGV[i + 1])
  end
end
return 1
