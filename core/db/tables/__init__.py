"""The tables, one file per subject. `core.db.tables.metadata` imports all of them."""
