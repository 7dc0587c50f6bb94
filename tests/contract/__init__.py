"""One suite for every database and every store."""
