"""Several processes, one for each device, that work on one run: who they are, and what they do."""

from spice.distributed import parted

__all__ = ["parted"]  # there before any processes wait for each other
