"""The measurements: `python -m bench NAME` runs `measure` of the module NAME."""
