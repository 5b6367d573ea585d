"""Response objects and streams, as pure functions of records and event logs."""
