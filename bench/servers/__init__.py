"""Real servers that measurements start: the whole pipeline, Redis, PostgreSQL."""
