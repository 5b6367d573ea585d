"""What the operator sees and does: workers, readiness, and control of queues."""
