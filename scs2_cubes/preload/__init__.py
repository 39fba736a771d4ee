"""What must be ordered and fetched before it can be read."""
