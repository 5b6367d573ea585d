"""Planning: the model of queue, fleet and autoscaler."""
