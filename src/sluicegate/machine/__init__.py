"""The sans-IO heart: what a reply and a run are, as tables and values. No I/O, no clock, no logging."""
