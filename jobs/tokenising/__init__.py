"""Requests to a model's tokeniser: they have no job, and a worker answers them over Redis."""
