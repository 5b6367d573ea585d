"""Reads jobs, and what they used, for clients: from Redis, the archive and the ledger."""
