"""The persisted domain: what a job is and where its state is kept. Networks live in ``worker/training/``."""
