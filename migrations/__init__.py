"""How the schema got here: one file per step, named by its date."""
