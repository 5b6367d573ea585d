"""What must hold before a pipeline starts, and what `penstock doctor` looks at."""
