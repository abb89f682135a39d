"""The objective of SPICE and the ways to maximise it."""
