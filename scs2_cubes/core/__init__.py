"""Pure: grids, kinds, resampling, versions. No I/O, no Dagster, no dask."""
