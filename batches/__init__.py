"""Batches: files of requests whose lines are jobs, and the process that feeds them."""
