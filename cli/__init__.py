"""The `penstock` command line: one file per noun, without logic of its own."""
