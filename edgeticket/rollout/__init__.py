"""Staged roll-out of a model to a fleet: which devices get it when, by what evidence, and when it is taken back (docs/rollout.md)."""
