"""Functions Dataset to Dataset, the users' own among them."""
