"""The SQL engine, its tables and what every writer of them shares."""
