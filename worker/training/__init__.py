"""Everything that runs in a trainer process: torch lives here, the database and the broker do not."""
