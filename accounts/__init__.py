"""Who may call: accounts, users, sessions, API keys. SQL is the truth, Redis has a copy."""
