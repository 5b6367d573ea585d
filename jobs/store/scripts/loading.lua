-- Say that a worker loads its model: KEDA counts these workers, so that none is removed meanwhile.
-- A worker that dies stops saying so, and its entry expires. A host whose loads fail again and again
-- counts for `limit_ms` from its first one; `loaded` forgets that instant.
-- Takes LoadingArgs. Returns 1, or 0 when the worker does not count any more.
local now, loading, began = now_ms(), q(queue, 'loading'), q(queue, 'load_began:' .. host)
redis.call('ZREMRANGEBYSCORE', loading, '-inf', int(now))
redis.call('SET', began, int(now), 'NX', 'PX', int(limit_ms + forget_ms))
if now - tonumber(redis.call('GET', began)) >= tonumber(limit_ms) then
  redis.call('ZREM', loading, worker)
  return 0
end
redis.call('ZADD', loading, int(now + expire_ms), worker)
redis.call('PEXPIRE', loading, int(expire_ms))
return 1
