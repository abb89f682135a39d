"""The skills that the sandbox's pools teach and its benchmarks test."""

from spice.sandbox.skills import chat, code, general, math

SKILLS = {skill.name: skill for part in (math, code, chat, general) for skill in part.SKILLS}
