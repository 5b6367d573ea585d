"""The ledger process: `python -m billing.process`."""
