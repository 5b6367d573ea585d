"""Worker processes: claim jobs, run them on one engine, write their events to Redis."""
