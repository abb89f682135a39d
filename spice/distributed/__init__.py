"""Several processes, one for each device, that work on one run: who they are, and what they do."""
