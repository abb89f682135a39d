"""What can be read off a model over a pool, and the store that keeps it."""
