"""One immutable usage event per job, moved from the Redis outbox to SQL exactly once."""
