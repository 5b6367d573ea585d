"""What a job costs: prices, rating and the costs clients are shown."""
