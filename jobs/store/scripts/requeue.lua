-- Give a running job back: after a failure (counted, maybe delayed), a drain (front, uncounted) or a
-- stop of its worker (`blame` says what is known about it; front, uncounted).
-- Takes RequeueArgs, BlameArgs, then RetentionArgs. Returns 'lost' | the status that the job has then
local head = redis.call('HMGET', job_key(job_id), 'fence', 'status')
if head[1] ~= fence or head[2] ~= IN_PROGRESS then return 'lost' end
local job, now = record(job_id), now_ms()
if blame == BLAME_ENGINE or blame == BLAME_UNKNOWN then
  return after_worker_stop(job_id, job, blame == BLAME_ENGINE, limits, now, retention)
end
local apart = held_against(job_id, job.seq).apart
if blame == BLAME_ALONE and apart == '' then apart = APART_START end
return requeue_job(job_id, job, error_json, tonumber(delay_ms), counted == '1', tonumber(max_attempts), now, retention, apart)
