"""What a job is, which states may follow, where it is kept and how it is queued."""
