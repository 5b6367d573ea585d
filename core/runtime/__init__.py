"""How a process starts, stops and answers its probes."""
