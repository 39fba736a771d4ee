"""YAML and environment in, frozen validated values out: the only reader of either. No network."""
