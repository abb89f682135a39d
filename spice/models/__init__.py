"""Checkpoints, adapters, and a pool as one model reads it."""
