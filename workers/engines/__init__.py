"""The engines a worker can drive, behind one protocol (`base.py`).

A new engine is a module or folder here, and a branch in `workers/engine_factory.py`.
"""
