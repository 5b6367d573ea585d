"""How long a request lasts, who watches its job and how many of a kind may run."""
