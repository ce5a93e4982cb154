"""Provider wires as we read them: bytes to deltas, a request to bytes. One module per dialect."""
