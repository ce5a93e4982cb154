"""The whole path: raw provider bytes in, the native wire out."""
