"""What made the sandbox's base models."""
