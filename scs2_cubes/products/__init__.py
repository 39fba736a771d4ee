"""One YAML file per known product; read by scs2_cubes.config.products."""
