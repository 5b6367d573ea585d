"""Ratios measured in one run, both sides interleaved: `python -m bench NAME --json`."""
