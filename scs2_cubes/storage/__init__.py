"""Cubes and their records, on disk or in an object store."""
