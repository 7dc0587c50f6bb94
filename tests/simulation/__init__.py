"""The service in one thread of virtual time: real code, simulated machines, every schedule from its seed."""
