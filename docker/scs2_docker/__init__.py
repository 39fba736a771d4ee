"""What the containers add to Dagster; no part of the package, because nothing of it is needed without containers."""
