"""Limits on the media and the complexity of one request, checked before a job is accepted."""
