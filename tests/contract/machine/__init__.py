"""A state machine over the job store: users, workers and faults as rules, and a model kept beside it."""
