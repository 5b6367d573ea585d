-- Mark the caller cache as complete: every caller was compared with SQL. `token` is what the
-- comparison wrote into `begun`; a cache that was lost meanwhile has it no more and stays incomplete.
-- Takes MarkCompleteArgs. Returns 1, or 0 when it stays incomplete.
local key = P .. ':callers'
if redis.call('HGET', key, 'begun') ~= token then return 0 end
redis.call('HSET', key, 'whole', '1')
return 1
