"""The migrations, one file per step, named by date."""
