"""Dagster: one module per noun. The only room, with scs2_cubes.definitions, that imports it."""
