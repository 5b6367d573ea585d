"""The engines a worker can drive, behind one protocol (`base`)."""
