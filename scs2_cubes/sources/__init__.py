"""One protocol a file. Lists what there is, tells its version, describes it and reads windows of it."""
