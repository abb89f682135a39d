"""Find the small part of an instruction-tuning pool that is worth training on."""

__version__ = "0.1.0"
