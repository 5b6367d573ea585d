"""Bodies that clients send: strict pydantic models, one file per resource."""
