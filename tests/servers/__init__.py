"""Real servers for tests, as processes that end with the tests."""
