"""Generated code, run in a jail of Linux's own making."""
