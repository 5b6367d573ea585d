-- An API process no longer follows a job. ARGV: id, watcher
if redis.call('EXISTS', job_key(ARGV[1])) == 1 then forget_watcher(ARGV[1], ARGV[2]) end
return 1
