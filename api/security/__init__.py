"""Authentication of callers and their IP addresses."""
