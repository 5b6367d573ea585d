"""Billing without a database."""
