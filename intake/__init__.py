"""Turns a request into an accepted job and returns its result, without HTTP."""
