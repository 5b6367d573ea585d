"""The migrations of the schema, applied by `penstock db upgrade`."""
