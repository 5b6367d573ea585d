"""Worker processes: claim jobs, run them on one engine, write their events to Redis.

On SIGTERM `runner.py` ends short jobs and returns the others to their queue.
"""
