"""A randomised soak: a whole pipeline under load and under faults, then every invariant."""
