"""GeoTIFFs and Zarr stores in a folder, looked at on disk, through a web server and in a bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import Affine

from scs2_cubes.config.object_stores import s3_options
from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import StoreSpec
from scs2_cubes.sources import open_reader, read_chunk
from scs2_cubes.sources.files import FileSource
from scs2_cubes_tests.sources.worlds import QUICK, Folder

SHAPE = (300, 220)
WEST, NORTH, STEP = 3_400_007.0, 2_501_933.0, 30.0


def files(folder: Path) -> Folder:
    """What lies in ``folder``, served with ETags that follow its content."""
    return Folder(folder, lambda content: f'"{hashlib.sha256(content).hexdigest()[:32]}"')


@dataclass
class Shelf:
    """A folder, and the store that reads it."""

    folder: Path
    """Where files are written."""
    store: StoreSpec
    publish: Callable[[], None] = field(default=lambda: None)
    """Make what was written be there."""

    @property
    def source(self) -> FileSource:
        return FileSource.open(self.store)


def store_at(protocol: str, root: str, options: dict[str, Any] | None = None) -> StoreSpec:
    params: dict[str, Any] = {"root": root}
    if options is not None:
        params["storage_options"] = s3_options(options, QUICK, attempts=1)
    return StoreSpec("files", protocol, params, retry=QUICK)


def pixels(dtype: str = "uint8", bands: int = 1, shape: tuple[int, int] = SHAPE) -> npt.NDArray[Any]:
    """(band, row, column)."""
    return np.random.default_rng(5).integers(0, 200, (bands, *shape)).astype(dtype)


def write_tif(path: Path, values: npt.NDArray[Any], **profile: Any) -> Path:
    """A GeoTIFF of ``values`` (band, row, column) with 30 m pixels, in 128 x 128 tiles unless ``profile`` says else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    given = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate", **profile}
    if not given["tiled"]:
        given.pop("blockxsize")
    descriptions, units = given.pop("descriptions", None), given.pop("units", None)
    with rasterio.open(
        path,
        "w",
        **{
            "driver": "GTiff",
            "count": count,
            "height": height,
            "width": width,
            "dtype": values.dtype,
            "crs": "EPSG:3035",
            "transform": Affine(STEP, 0, WEST, 0, -STEP, NORTH),
            **given,
        },
    ) as raster:
        raster.write(values)
        for band in range(count):
            if descriptions:
                raster.set_band_description(band + 1, descriptions[band])
            if units:
                raster.set_band_unit(band + 1, units[band])
    return path


def read_all(native: NativeDataset, name: str) -> npt.NDArray[Any]:
    """An array, chunk by chunk; what isn't stored reads as ``absent``."""
    array, reader = native.array(name), open_reader(native.location)
    whole = np.full(array.shape, 0 if array.absent is None else array.absent, array.dtype)
    for row in range(-(-array.shape[0] // array.chunks[0])):
        for col in range(-(-array.shape[1] // array.chunks[1])):
            chunk = read_chunk(reader, array, (row, col))
            if chunk is not None:
                rows, cols = (number * size for number, size in zip((row, col), array.chunks, strict=True))
                whole[rows : rows + array.chunks[0], cols : cols + array.chunks[1]] = chunk
    return whole
