"""The other side of a comparison: servers that do less than the pipeline."""
