"""`penstock bills`: close, show, export and check a month."""
