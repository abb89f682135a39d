"""Per-sample gradients: read, projected, stored, and what they say of each other."""
