"""How a job gets run: tickets in, one engine, events out."""
