"""Who calls and from where."""
