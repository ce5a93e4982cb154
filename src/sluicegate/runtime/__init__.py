"""Runs while they live: a driver, its tools, the event log that readers follow."""
