"""From a request to an accepted job and back, without HTTP."""
