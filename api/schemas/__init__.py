"""What clients may send: strict pydantic models, one file per body."""
