# ruff: noqa: INP001  (beside the configurations whose cubes it takes; no package)
"""How to build on the cubes: forest mask x biomass by genus, one small table for each partition. Made to be copied.

SCS2_CONFIG=configs/scs2.yml dagster asset materialize -f configs/biomass_by_genus.py --select biomass_by_genus \
    --partition landes
"""

import dagster as dg
import fsspec
import numpy as np
import xarray as xr
from dask.array.core import slices_from_chunks

from scs2_cubes.config import load_case
from scs2_cubes.orchestration.build import build_definitions
from scs2_cubes.orchestration.partitions import partitions_definition

#: Codes of the forest type that are forest: broadleaved, coniferous. 254 is unclassifiable, 255 no value.
FOREST = (1, 2)
#: Percentiles are read off a histogram, so that memory doesn't grow with the area: steps of 25 kg, up to 100 t a pixel.
STEP, STEPS = 25.0, 4000
PERCENTILES = (25, 50, 75)

case = load_case()  # $SCS2_CONFIG, else configs/scs2.yml
liu_cube = case.dataset("liu")

# The IO manager "cubes" opens what lies there, lazily and in stored dtypes: class codes are integers. It refuses a cube
# that isn't finished. "ins" names assets; for one whose key has several parts write dg.AssetIn(["forest", "age"], …).
CUBE = dg.AssetIn(input_manager_key="cubes")


@dg.asset(
    ins={"forest_type_2015": CUBE, "liu": CUBE, "forestpaths_genus": CUBE},
    partitions_def=partitions_definition(liu_cube),  # the cubes' own, so one partition is made from one of each
    group_name="analysis",
)
def biomass_by_genus(
    context: dg.AssetExecutionContext, forest_type_2015: xr.Dataset, liu: xr.Dataset, forestpaths_genus: xr.Dataset
) -> dg.MaterializeResult[None]:
    """Biomass in forest by tree genus: pixels, area, mean and quartiles. Genera that don't occur are left out."""
    (forest,) = forest_type_2015.data_vars.values()  # named after CLMS's file
    grid = next(one.region.grid for one in liu_cube.partitions if one.key == context.partition_key)
    km2 = grid.x_res * grid.y_res / 1e6  # of a pixel: the CRS is in metres
    table = summary(forest, forestpaths_genus["genus"], liu["aboveground_biomass"], km2)
    # Beside the cubes, wherever they lie: on disk or in S3.
    files, root = fsspec.url_to_fs(case.storage.root, **case.storage.options)
    path = f"{root}/tables/biomass_by_genus-{context.partition_key}.csv"
    files.makedirs(f"{root}/tables", exist_ok=True)
    files.write_text(path, "".join(",".join(row) + "\n" for row in table))
    shown = [f"| {' | '.join(row)} |" for row in table]
    shown.insert(1, "|---" * len(table[0]) + "|")
    return dg.MaterializeResult(metadata={"table": dg.MetadataValue.md("\n".join(shown)), "file": path})


def summary(forest: xr.DataArray, genus: xr.DataArray, biomass: xr.DataArray, km2: float) -> list[list[str]]:
    """Header and rows for ``forest``, ``genus`` and ``biomass`` (y, x), lazy, with pixels of ``km2``."""
    # Pixel on pixel, or an error: cubes of one region have the same coordinates, to the bit.
    forest, genus, biomass = xr.align(forest, genus, biomass, join="exact")
    # Classes are where CF has them, and so are units.
    labels = dict(zip(genus.attrs["flag_values"], genus.attrs["flag_meanings"].split(), strict=True))
    counts, sums = {code: np.zeros(STEPS) for code in labels}, dict.fromkeys(labels, 0.0)
    for tile in slices_from_chunks(genus.chunks):  # one tile of each cube in memory at a time
        codes, masses = genus[tile].to_numpy(), biomass[tile].to_numpy()
        used = np.isin(forest[tile].to_numpy(), FOREST) & np.isfinite(masses)  # "no value" is NaN in floats
        for code in labels:  # 255, "no value" in classes, is none of them
            values = masses[used & (codes == code)].astype(np.float64)
            sums[code] += values.sum()
            counts[code] += np.bincount(np.minimum(values // STEP, STEPS - 1).astype(int), minlength=STEPS)
    units = biomass.attrs["units"]
    table = [["genus", "pixels", "area (km2)", f"mean ({units})", *(f"p{share} ({units})" for share in PERCENTILES)]]
    for code, label in labels.items():
        up_to = np.concatenate([[0], np.cumsum(counts[code])])  # pixels below each step, then all of them
        if pixels := int(up_to[-1]):
            percentiles = np.interp(np.array(PERCENTILES) / 100 * pixels, up_to, STEP * np.arange(STEPS + 1))
            numbers = (pixels * km2, sums[code] / pixels, *percentiles)
            table.append([label, str(pixels), *(f"{number:.2f}" for number in numbers)])
    return table


# The platform's assets and resources, and one more; the lineage goes across.
defs = dg.Definitions.merge(build_definitions(case), dg.Definitions(assets=[biomass_by_genus]))
