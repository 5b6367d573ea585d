"""A month's bills as files: CSV, JSON, Parquet, PDF."""
