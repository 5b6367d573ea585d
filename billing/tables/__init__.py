"""The tables, one file per subject. Importing `billing.tables.metadata` registers all of them."""
