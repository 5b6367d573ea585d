"""Measurements as ratios, both sides interleaved in one run: `python -m bench NAME --json`."""
