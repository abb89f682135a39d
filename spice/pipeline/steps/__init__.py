"""The steps of a run, one per file: its key, how it is built and loaded, and what it would take."""
