"""Accounts, users, sessions and API keys, in SQL and cached in Redis."""
