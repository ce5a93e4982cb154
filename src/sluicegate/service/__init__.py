"""The HTTP service: routes on Quart-Trio. A response is only a reader of its run's event log."""
