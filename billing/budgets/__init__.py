"""Budgets of accounts and keys, what was spent, and the warnings."""
