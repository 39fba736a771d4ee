"""Analysis-ready forest cubes on one grid, pixel on pixel."""
