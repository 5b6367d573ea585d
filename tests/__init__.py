"""Proofs, by speed class: unit, contract, integration, faults, e2e."""
