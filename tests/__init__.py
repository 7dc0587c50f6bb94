"""Unit, contract, integration and fault tests, and what they share."""
