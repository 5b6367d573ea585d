"""Compares jobs, delivered tokens, ledger and invoices; it changes nothing."""
