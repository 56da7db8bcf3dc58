"""Bytes from an address that a stranger names, and the guard that decides what may be reached."""
