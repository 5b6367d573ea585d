"""Do jobs, delivered tokens, ledger and invoices say the same? Nothing here changes anything."""
