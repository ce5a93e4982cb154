"""The server: real sockets, and clients that behave badly."""
