"""Environments of their own for serving engines and quantizers: found, made, checked. None of them is imported by this program."""
