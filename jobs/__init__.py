"""Jobs: their states, their store in Redis, their events, and their archive in SQL."""
