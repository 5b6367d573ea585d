"""The engines a worker can drive, behind one protocol (`base.py`).

A new engine is a module or folder here that implements `base.Engine`; its name in `kind` of
`core/settings/engine.py`; a branch in `workers/engine_factory.py`; a fixture in
`tests/contract/conftest.py`, so that the contract tests run on it; and, if it loads weights, a
branch in `weights_digest.py`.
"""
