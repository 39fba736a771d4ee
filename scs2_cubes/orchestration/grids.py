"""The grids' asset: where the regions lie, as a map. Cubes are made without it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import PurePath

import dagster as dg

from scs2_cubes.core.specification import Case
from scs2_cubes.core.versions import data_version
from scs2_cubes.orchestration.metadata import image_metadata
from scs2_cubes.orchestration.provenance import latest_version, version_tags

__all__ = ["GRIDS_KEY", "grids_asset", "tell_grids"]

GRIDS_KEY = dg.AssetKey(["grids", "regions"])


def grids_asset(case: Case) -> dg.AssetsDefinition:
    """The regions of ``case``: materializing it draws their map, and asks nobody."""

    @dg.asset(
        key=GRIDS_KEY,
        group_name="grids",
        kinds={"map"},
        description="Regions, their grids and partitions. `scs2-cubes map` writes the same map as a page that works "
        "offline.",
    )
    def regions() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(data_version=dg.DataVersion(_version(case)), metadata=_metadata(case))

    return regions


def tell_grids(instance: dg.DagsterInstance, case: Case) -> None:
    """Tell ``instance`` outside of any run what the regions are, where it knows others or none."""
    version = _version(case)
    if latest_version(instance, GRIDS_KEY) != version:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(GRIDS_KEY, metadata=_metadata(case), tags=version_tags(version))
        )


def _version(case: Case) -> str:
    """Fingerprint of everything that is drawn: title, regions in their order with their grids, and sites."""
    return data_version(
        {
            "title": PurePath(case.name).name,
            "regions": [[region.name, asdict(region.grid)] for region in case.regions],
            "sites": [asdict(site) for site in case.sites],
        }
    )


def _metadata(case: Case) -> dict[str, dg.MetadataValue]:
    from scs2_cubes.report.region_map import region_map_png  # noqa: PLC0415  (a second of import, for what is drawn)

    return {
        "map": image_metadata("map of the regions", region_map_png(case)),
        "regions": dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "region": region.name,
                        "crs": region.grid.crs,
                        "bbox": ", ".join(str(value) for value in region.grid.bbox),
                        "resolution": f"{region.grid.x_res} x {region.grid.y_res}",
                        "shape": f"{region.grid.ny} x {region.grid.nx} (y, x)",
                    }
                )
                for region in case.regions
            ]
        ),
    }
