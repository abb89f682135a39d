"""One run: its steps, its plan, its machine."""
