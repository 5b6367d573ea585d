"""Usage, margin and the proof of one job, read from the ledger."""
