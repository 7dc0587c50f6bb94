"""Chaos for half an hour or a night: real processes, faults from a seed, and a checker over what is left."""
