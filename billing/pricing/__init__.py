"""What a job costs: price versions, rating, GPU rates, and the costs shown to clients."""
