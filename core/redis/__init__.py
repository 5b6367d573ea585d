"""The Redis client, the Lua scripts it runs and the names of the keys."""
