"""`python -m webhooks`: a process that delivers webhooks."""

import sys

from webhooks.celery_app import main

if __name__ == "__main__":
    sys.exit(main())
