"""Global attributes of a cube: what doesn't depend on the version of its content, and what does."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import DatasetSpec
from scs2_cubes.pipeline.layers import LayerPlan

__all__ = ["static_attributes", "version_attributes"]


def static_attributes(dataset: DatasetSpec, native: NativeDataset) -> dict[str, Any]:
    product = dataset.product
    known = (
        {
            "licence_url": product.licence_url,
            "license": product.licence,
            "references": " ".join(product.references),
            "citation": product.citation,
        }
        if product
        else {}
    )
    added = {
        "Conventions": "CF-1.11",
        "title": product.title if product else str(native.attrs.get("title", dataset.identifier)),
        "source": native.href,
        **{name: value for name, value in known.items() if value},
        **({"non_commercial_use_only": 1} if product and product.non_commercial else {}),
        **native.provenance,
    }
    kept = {
        name: value
        for name, value in native.attrs.items()
        if name not in _VERSIONED_ATTRS and not name.startswith(_EXTENT_PREFIXES)
    }
    return {**kept, **added}


#: Global attributes of a source that describe its present content or its own lattice, not the cube's identity.
_VERSIONED_ATTRS = frozenset(
    {"creation_date", "date_created", "date_modified", "history", "spatial_ref", "crs", "spatial_resolution"}
)
#: Where the source lies in space and time, in the words of ACDD 1.3: a cube is on a region and times of its own.
_EXTENT_PREFIXES = ("geospatial_", "time_coverage_")


def version_attributes(dataset: DatasetSpec, native: NativeDataset, layers: tuple[LayerPlan, ...]) -> dict[str, Any]:
    release = version("scs2-cubes")
    steps = "; ".join(
        f"{layer.variable.name}: " + (f"{layer.statistic} of members, " if layer.statistic else "") + str(layer.method)
        for layer in layers
    )
    return {
        "source_version": native.version,
        "scs2_cubes_version": release,
        "history": f"scs2_cubes {release} from {dataset.data_id}: {steps}",
    }
