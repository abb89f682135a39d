"""The command line: help, and errors in one line."""
