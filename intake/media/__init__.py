"""Fetches the media that a request names by URL, before its job is accepted."""
