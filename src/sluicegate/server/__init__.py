"""Hypercorn's Trio worker, as sluicegate runs it."""
