"""Capacity planning: replays a workload against a model of queue, fleet and autoscaler."""
