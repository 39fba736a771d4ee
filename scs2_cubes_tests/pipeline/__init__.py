"""Plans, tiles and what runs them."""
