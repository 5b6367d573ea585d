"""Names of the groups of routes, which the `routes` scope of an API key lists.

`intake.permissions` assigns every route to one of them; a test checks that the two agree.
"""

ROUTE_GROUPS = frozenset(
    {
        "account",
        "accounts",
        "audit",
        "batches",
        "billing",
        "chat",
        "completions",
        "embeddings",
        "files",
        "generate",
        "jobs",
        "keys",
        "me",
        "messages",
        "models",
        "queues",
        "responses",
        "tokenize",
        "usage",
        "users",
        "webhooks",
    }
)
