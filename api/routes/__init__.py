"""One file per resource; each route is thin."""
