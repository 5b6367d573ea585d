"""Where commands get their data: the API, the databases, the settings, the state directory."""
