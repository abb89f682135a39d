"""Rows, what models see of them, and batches."""
