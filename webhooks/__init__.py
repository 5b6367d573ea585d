"""Webhooks: endpoints, events, signatures, and deliveries with retries (Standard Webhooks 1.0)."""
