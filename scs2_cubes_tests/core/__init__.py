"""Tests of ``scs2_cubes.core``."""
