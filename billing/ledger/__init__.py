"""One immutable usage event per job, written from the outbox exactly once."""
