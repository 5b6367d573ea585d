"""Metrics, alerts, traces and logs of real processes."""
