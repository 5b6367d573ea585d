"""Long responses: event streams, responses that wait for a job, downloads."""
