"""Webhooks on real servers."""
