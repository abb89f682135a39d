"""Signals and a count in, a selection out: no models, no files, no configuration here."""
