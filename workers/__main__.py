"""`python -m workers` runs one worker process."""

from workers.celery_app import main

if __name__ == "__main__":
    main()
