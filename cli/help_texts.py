"""What `penstock --help` says of each command, so that it need not import them all.

Invariant: each text is the beginning of the command's own help; a test compares them.
"""

#: Noun -> the first paragraph of its help.
HELP_TEXTS = {
    "up": "Start Redis, the API, a worker and all other processes; stop them on Ctrl-C.",
    "doctor": "Check the machine, the settings and the servers; print each result and what to do.",
    "jobs": "Submit and follow jobs. Exit code 1: the server refused, or an awaited job failed.",
    "batches": (
        "Run files of requests. Exit code 1: the server refused, or an awaited batch failed."
    ),
    "models": "List the served models, and retire some.",
    "webhooks": "Send events of jobs and batches to a URL.",
    "keys": "Create, list, rotate and revoke API keys.",
    "users": "Create, list, change and disable users.",
    "accounts": "Create, list, limit, suspend and delete accounts.",
    "workers": "List the workers and their circuit breakers.",
    "queues": "Show the queues, and pause, drain, close, resume or purge one.",
    "dead": "List the dead-letter jobs, run them again, and delete them.",
    "prices": "Set and list the prices of models.",
    "gpu-rates": "Set and list the cost of the models' GPUs.",
    "budgets": "Limit the spending of accounts and keys.",
    "bills": "Close months, and correct, export and check their invoices.",
    "simulate": "Replay a trace against scaling policies; compare waiting, GPU hours and cost.",
    "calibrate": (
        "Run jobs of several sizes and concurrencies on one idle worker, and fit a latency model."
    ),
    "db": "Upgrade and check the tables of the billing database (PENSTOCK_DATABASE__URL).",
    "backup": "Copy SQL, Redis and files, as of one moment, into a new folder. Everything may run.",
    "restore": "Verify a backup and write it into empty stores. Stop all processes first.",
    "redis": "Run the embedded Redis, with its data in .penstock/redis and a password.",
    "control": "Run a control process: it hands on the jobs of workers that died.",
    "ledger": "Run a ledger process: it records the usage of jobs in the billing database.",
    "deliverer": "Run a deliverer: it sends webhooks to accounts.",
    "feeder": "Run a feeder: it submits the requests of batches and deletes expired files.",
    "api": "Run an API process (PENSTOCK_API__HOST and PENSTOCK_API__PORT).",
    "worker": "Run a worker (PENSTOCK_ENGINE__MODEL names the model).",
}
