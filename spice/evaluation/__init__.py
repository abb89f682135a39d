"""Benchmarks, asked through lm-eval."""
