"""The job store: each transition of a job is one Lua script in Redis.

`scripts/submit.lua` decides whether a job is accepted, and computes the Retry-After of a rate
limit; `rejections.py` turns a refusal into an error.
"""
