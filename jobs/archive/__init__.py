"""Finished jobs in SQL, for reads after Redis has dropped them."""
