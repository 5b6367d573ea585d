"""What measurements send: requests, jobs, replayed workloads, a month of usage events."""
