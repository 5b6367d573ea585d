"""The job store: each transition of a job is one Lua script in Redis."""
