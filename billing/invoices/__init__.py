"""Closes months and issues invoices, adjustments and credit notes."""
