"""Access to the API, the databases, the settings and the state directory."""
