"""Live events of jobs, from pub/sub to their readers; `jobs/events.py` defines the events."""
