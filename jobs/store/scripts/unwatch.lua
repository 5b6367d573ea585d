-- An API process no longer follows a job. Takes UnwatchArgs.
if redis.call('EXISTS', job_key(job_id)) == 1 then forget_watcher(job_id, watcher) end
return 1
