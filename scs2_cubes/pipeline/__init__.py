"""Plans with integers, makes tiles, and hands both to Dask."""
