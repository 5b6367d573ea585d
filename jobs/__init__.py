"""Jobs: their states, their store in Redis, their events, and their archive in SQL.

`events.py` names every event of a stream, `restarted` among them.
"""
