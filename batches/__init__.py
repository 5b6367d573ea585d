"""Batches: files of requests, and the process that runs each request as a job."""
