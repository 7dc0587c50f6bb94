"""The worker: a light supervisor that keeps the lease, and the trainer process that it looks after."""
