"""Clients of the archives, against the embedded catalogue and against stores written here."""
