"""What clients are shown: pure views of one job record and one event log."""
