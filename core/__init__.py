"""What every process needs, without any knowledge of jobs: settings, errors, logs, Redis, SQL."""
