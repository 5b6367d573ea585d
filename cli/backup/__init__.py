"""Backup and restore of everything that an installation keeps: SQL, Redis and files."""
