"""The settings of every process: one module for each concern, and `tree` that joins them."""
