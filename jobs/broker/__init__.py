"""Celery messages that say that a queue has one more job."""
