"""Metadata of a cube partition's materialization: what the UI shows and plots."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import dagster as dg
import numpy as np

from scs2_cubes.pipeline.cubes import PlannedPartition
from scs2_cubes.pipeline.inspection import Inspection
from scs2_cubes.pipeline.materialize import PartitionReport
from scs2_cubes.pipeline.plan import CubePlan
from scs2_cubes.preload import WindowReport
from scs2_cubes.storage import CubeStore

__all__ = ["image_metadata", "mean_metadata", "picture_metadata", "report_metadata"]


def report_metadata(
    plan: CubePlan, report: PartitionReport, store: CubeStore, dashboard: str | None
) -> Mapping[str, dg.MetadataValue | float | int | str]:
    """Numbers (they plot over partitions) and texts of one finished partition. Asks storage for the cube's size."""
    grid = plan.schema.grid
    height, width = report.partition.window.shape
    return {
        "variables": _variables(plan, report),
        "cube": store.url,
        "shape": f"{plan.schema.n_steps} x {height} x {width} (time, y, x)",
        "crs": grid.crs,
        "resolution": f"{grid.x_res} x {grid.y_res}",
        "chunks": f"1 x {grid.tile_ny} x {grid.tile_nx}",
        "bytes_written": report.bytes_written,
        "bytes_on_disk": store.size(),
        "seconds": round(report.seconds, 3),
        "tiles_made": report.made,
        "tiles_kept": report.kept,
        "tiles_empty": report.empty,
        "source_chunks_absent": report.source_chunks_absent,
        "source_version": plan.source_version,
        "source": dg.MetadataValue.url(plan.native.href),
        **{f"valid_fraction_{name}": round(value, 6) for name, value in report.valid_fraction.items()},
        **(_fetched(report.fetched) if report.fetched else {}),
        **({"dask_dashboard": dg.MetadataValue.url(dashboard)} if dashboard else {}),
    }


def mean_metadata(inspection: Inspection) -> Mapping[str, float]:
    """The mean of each layer that isn't a class map, of the last time step."""
    return {f"mean_{name}": float(values[-1]) for name, values in inspection.means.items() if np.isfinite(values[-1])}


def picture_metadata(planned: PlannedPartition, pictures: Mapping[str, bytes]) -> Mapping[str, dg.MetadataValue]:
    """``pictures`` as the web UI shows them. Writes them beside the cube, too. Raises StorageError."""
    key, store = planned.partition.key, planned.store
    written = {
        f"{name}_file": dg.MetadataValue.path(store.write_picture(f"{key}.{name}.png", picture))
        for name, picture in pictures.items()
    }
    return {**{name: image_metadata(name, picture) for name, picture in pictures.items()}, **written}


def image_metadata(name: str, picture: bytes) -> dg.MetadataValue:
    """A PNG of less than 75 kB as the web UI shows it; ``name`` stands where it can't."""
    # Within the event itself: the web UI may run where the cubes can't be seen.
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(picture).decode()})")


def _fetched(windows: WindowReport) -> Mapping[str, float | int]:
    return {
        "source_requests": windows.requests,
        "bytes_fetched": windows.fetched,
        "pieces_held": windows.held,
        "seconds_fetching": round(windows.seconds, 3),
    }


def _variables(plan: CubePlan, report: PartitionReport) -> dg.MetadataValue:
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord(
                {
                    "variable": layer.variable.name,
                    "kind": str(layer.variable.kind),
                    "dtype": layer.variable.dtype,
                    "fill": str(layer.variable.fill),
                    "units": layer.variable.units or "",
                    "method": str(layer.method),
                    "valid fraction": round(report.valid_fraction[layer.variable.name], 6),
                }
            )
            for layer in plan.layers
        ]
    )
