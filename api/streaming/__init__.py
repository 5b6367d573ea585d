"""Answers that last: event streams, waiting answers and downloads."""
