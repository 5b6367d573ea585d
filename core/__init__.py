"""What every process needs and what knows no job: settings, errors, logs, Redis, SQL."""
