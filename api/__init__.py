"""The HTTP service: thin routes over ``models``."""
