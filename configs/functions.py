# ruff: noqa: INP001  (beside the configurations that name it; no package)
"""The case's own functions, for ``custom_processing``: Dataset to Dataset, on each tile's window of the source.

What they get is what ``xarray.open_zarr`` shows of the source: all variables and times, "no value" as NaN.
"""

import xarray as xr


def modify_gami(ds: xr.Dataset) -> xr.Dataset:
    """The last of the two years, and the mean of the twenty members."""
    ds = ds.isel(time=-1)
    return ds.mean(dim="members")


def modify_efda(ds: xr.Dataset) -> xr.Dataset:
    """The agents without the occurrences, as bytes. The cast makes 0 of NaN; outside of the forest, cubes have 255."""
    ds = ds.drop_vars("disturbance_occurrence")
    ds["disturbance_agent"] = ds["disturbance_agent"].astype("uint8")
    return ds
