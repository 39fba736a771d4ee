"""Tests of scs2_cubes.config."""
