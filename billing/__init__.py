"""Money: prices, the ledger, budgets, invoices, exports, reconciliation and reports."""
