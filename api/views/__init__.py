"""What clients get to see: pure views over one job record and one event log."""
