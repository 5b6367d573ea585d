"""The job store: each transition of a job is one Lua script in Redis.

A submission that is refused becomes an error in `rejections.py`, with the seconds of its
Retry-After.
"""
