"""The tables, one file per subject. Importing `core.db.tables.metadata` registers all of them."""
