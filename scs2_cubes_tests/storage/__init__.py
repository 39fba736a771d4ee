"""Cubes on disk and in object stores: what every format and every place must keep to."""
