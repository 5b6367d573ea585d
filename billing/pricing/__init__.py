"""What a job costs: price versions, GPU rates, and the costs shown to clients.

`rating.py` multiplies tokens (input, cached input, output) with their prices.
"""
