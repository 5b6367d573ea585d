"""Reports from the ledger: usage, margin, and the proof of one job."""
