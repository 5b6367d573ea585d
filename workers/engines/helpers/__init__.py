"""Bounded helper processes: they do what a request makes costly, apart from the engine."""
