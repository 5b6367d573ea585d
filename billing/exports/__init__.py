"""A month's invoices and usage as files: CSV, JSON, Parquet, PDF."""
