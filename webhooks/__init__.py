"""Tells accounts what happened: endpoints, signatures, deliveries tried until they are taken."""
