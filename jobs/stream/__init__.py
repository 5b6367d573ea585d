"""Live events of jobs, from pub/sub to their readers."""
