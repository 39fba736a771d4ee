"""Embedded, faithful stand-ins for the services, with small synthetic data, on loopback."""
