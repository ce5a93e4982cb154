"""Providers: the only code that touches the SDKs. A request goes in, raw bytes of the reply come out."""
