"""What can be read off a model over a pool."""
