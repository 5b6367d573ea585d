"""Budgets of accounts and keys, the amounts spent, and warnings."""
