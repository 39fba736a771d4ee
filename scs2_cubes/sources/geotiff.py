"""A GeoTIFF, or COG, as arrays on one lattice: described from its header, read block by block.

Each of its bands is an array ``band_1``, ``band_2`` …; a chunk is a tile, or several strips. Only what is asked for is
read: the header, then one range of bytes for each chunk, through the same transport as a Zarr store's bytes. GDAL
decodes them in memory and never sees the file, its address or a credential.
"""

from __future__ import annotations

import hashlib
import json
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import zarr
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from zarr.abc.store import RangeByteRequest
from zarr.core.sync import sync

from scs2_cubes.core.grid import Lattice
from scs2_cubes.core.native import Location, NativeArray, NativeDataset
from scs2_cubes.errors import DataIdNotFoundError, GridError, SourceFormatError
from scs2_cubes.sources.array_store import open_store
from scs2_cubes.sources.reference_system import normal_crs
from scs2_cubes.sources.tiff import Blocks, Directory, TiffError, read_directories, small_file

__all__ = ["FORM", "TiffChunkReader", "describe_tiff"]

#: :attr:`scs2_cubes.core.native.Location.form` of a GeoTIFF.
FORM = "geotiff"

#: Bytes that are read at once of the header; what GDAL writes as a COG has its directories there.
_HEAD = 64 * 1024
#: Rows that strips are put together to, and the bytes that they may have decoded.
_ROWS, _CHUNK_BYTES = 256, 16 * 2**20
#: Largest block in bytes: it is decoded whole, whatever is asked of it.
_MAX_BLOCK = 256 * 2**20
#: Blocks are read as one range where no more lies between them than they have themselves, and this.
_GAP = 4096


def describe_tiff(location: Location, *, href: str, version: str) -> NativeDataset:
    """Describe the GeoTIFF at ``location``: reads its header, no pixels.

    Raises SourceFormatError where it isn't one with a CRS, upright and without mask or alpha band, and
    DataIdNotFoundError where nothing lies there. What lies beside it isn't looked at.
    """
    image = _Image.read(location)
    try:
        arrays, lattice, attrs = _described(image)
    except (RasterioError, NotGeoreferencedWarning, TiffError, GridError, ValueError) as error:
        raise SourceFormatError(f"the GeoTIFF can't be used: {error}", url=location.url) from error
    return NativeDataset(
        location=replace(location, form=FORM),
        href=href,
        arrays=arrays,
        lattice=lattice,
        y_dim="y",
        x_dim="x",
        version=version,
        attrs=attrs,
    )


@dataclass(frozen=True)
class _Image:
    """The first image of a file."""

    directory: Directory
    blocks: Blocks

    @classmethod
    def read(cls, location: Location) -> _Image:
        """Reads the header at ``location``. Raises SourceFormatError, and what reading raises."""
        head = _read(location, 0, _HEAD)

        def read(offset: int, size: int) -> bytes:
            within = offset + size <= len(head) or len(head) < _HEAD
            return head[offset : offset + size] if within else _read(location, offset, size)

        try:
            first, *others = read_directories(read)
            if any(other.is_mask for other in others):
                raise SourceFormatError("it has a mask beside its pixels; write nodata instead", url=location.url)
            return cls(first, Blocks.of(first))
        except (TiffError, ValueError) as error:
            raise SourceFormatError(f"not a TIFF that can be read: {error}", url=location.url) from error

    @property
    def layout(self) -> str:
        """Fingerprint of the header: that of a file that was replaced is another one."""
        digest = hashlib.sha256()
        for tag, field in sorted(self.directory.fields.items()):
            digest.update(f"{tag} {field.kind} {field.count} ".encode() + field.raw)
        return digest.hexdigest()[:16]


def _described(image: _Image) -> tuple[tuple[NativeArray, ...], Lattice, dict[str, Any]]:
    blocks = image.blocks
    # Of the whole file's fields, with a single block that isn't stored.
    empty = small_file(image.directory, replace(blocks, is_separate=False), 0, [b""], blocks.block[0])
    with warnings.catch_warnings(), rasterio.MemoryFile(empty) as memory:
        warnings.simplefilter("error", NotGeoreferencedWarning)
        return _of_raster(image, memory)


def _of_raster(image: _Image, memory: rasterio.MemoryFile) -> tuple[tuple[NativeArray, ...], Lattice, dict[str, Any]]:
    blocks = image.blocks
    with memory.open() as raster:
        transform, crs = raster.transform, raster.crs
        text = normal_crs(crs.to_wkt()) if crs else None
        if text is None:
            raise TiffError("it has no coordinate reference system")
        if transform.b or transform.d:
            raise TiffError(f"it is rotated: {tuple(transform)[:6]}")
        alpha = next((band for band, what in enumerate(raster.colorinterp, 1) if what is ColorInterp.alpha), None)
        if alpha is not None:
            raise TiffError(
                f"its band {alpha} is an alpha band, which says where the others are valid; write nodata instead, or "
                "with GDAL's option ALPHA=NO where it is a band like the others"
            )
        lattice = Lattice(text, transform.c, transform.f, transform.a, transform.e, blocks.width, blocks.height)
        strips = _strips_together(image, raster.dtypes)
        arrays = tuple(_array(image, raster, band, strips) for band in range(raster.count))
        return arrays, lattice, {"title": title} if (title := raster.tags().get("TIFFTAG_IMAGEDESCRIPTION")) else {}


def _array(image: _Image, raster: Any, band: int, strips: int) -> NativeArray:
    blocks, dtype = image.blocks, np.dtype(raster.dtypes[band])
    if dtype.kind not in "iuf":
        raise TiffError(f"band {band + 1} has {dtype} pixels")
    nodata, unit, name = raster.nodatavals[band], raster.units[band], raster.descriptions[band]
    return NativeArray(
        name=f"band_{band + 1}",
        dims=("y", "x"),
        shape=(blocks.height, blocks.width),
        chunks=(blocks.block[0] * strips, blocks.block[1]),
        dtype=dtype.name,
        fill=None if nodata is None else float(nodata),
        # As GDAL reads a block that isn't stored.
        absent=0.0 if nodata is None else float(nodata),
        scale=float(raster.scales[band]),
        offset=float(raster.offsets[band]),
        attrs={**({"long_name": name} if name else {}), **({"units": unit} if unit else {})},
        metadata=json.dumps({"sample": band, "strips": strips, "layout": image.layout}),
    )


def _strips_together(image: _Image, dtypes: Sequence[str]) -> int:
    """How many strips make a chunk; 1 for tiles. Raises TiffError where a block alone is too large."""
    blocks = image.blocks
    pixel = max(np.dtype(dtype).itemsize for dtype in dtypes) * (1 if blocks.is_separate else blocks.samples)
    size = blocks.block[0] * blocks.block[1] * pixel
    if size > _MAX_BLOCK:
        raise TiffError(
            f"its blocks of {blocks.block[0]} x {blocks.block[1]} pixels have {size} bytes each; write it with tiles"
        )
    if blocks.is_tiled:
        return 1
    return max(1, min(_ROWS // blocks.block[0], _CHUNK_BYTES // size, blocks.down))


class TiffChunkReader:
    """Chunks of a GeoTIFF's bands. Reads the header when the first one is asked for, and keeps it."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._lock = threading.Lock()
        self._image: _Image | None = None

    @classmethod
    def open(cls, location: Location) -> TiffChunkReader:
        """Reader for ``location``; nothing is asked for yet."""
        return cls(location)

    def fetch_chunk(self, array: NativeArray, index: tuple[int, ...]) -> bytes | None:
        """See :class:`scs2_cubes.sources.base.ChunkReader`. Raises SourceFormatError where the file was replaced."""
        image, numbers, _ = self._place(array, index)
        offsets, sizes = image.blocks.offsets[numbers], image.blocks.sizes[numbers]
        stored = sizes > 0
        if not stored.any():
            return None
        first, last = int(offsets[stored].min()), int((offsets + sizes)[stored].max())
        if last - first <= 2 * int(sizes.sum()) + _GAP:
            content = self._whole(first, last - first)
            parts = [content[start - first :][:size] for start, size in zip(offsets, sizes, strict=True) if size]
        else:
            parts = [self._whole(int(start), int(size)) for start, size in zip(offsets, sizes, strict=True) if size]
        return b"".join(parts)

    def decode_chunk(self, array: NativeArray, index: tuple[int, ...], encoded: bytes) -> npt.NDArray[Any]:
        """See :class:`scs2_cubes.sources.base.ChunkReader`."""
        image, numbers, sample = self._place(array, index)
        sizes = [int(size) for size in image.blocks.sizes[numbers]]
        ends = np.cumsum(sizes)
        if int(ends[-1]) != len(encoded):
            raise self._damaged(array, index, f"{len(encoded)} bytes, not {ends[-1]}")
        stored = [encoded[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        height, width = (
            min(size, length - number * size)
            for number, size, length in zip(index, array.chunks, array.shape, strict=True)
        )
        blocks = image.blocks
        rows = blocks.block[0] if blocks.is_tiled else height
        small = small_file(image.directory, blocks, sample, stored, rows)
        try:
            with rasterio.MemoryFile(small) as memory, memory.open() as raster:
                pixels: npt.NDArray[Any] = raster.read(1 if blocks.is_separate else sample + 1)
        except RasterioError as error:
            raise self._damaged(array, index, str(error)) from error
        return pixels[:height, :width].astype(array.dtype, copy=False)

    def _place(self, array: NativeArray, index: tuple[int, ...]) -> tuple[_Image, list[int], int]:
        """(The image, the numbers of the blocks at ``index``, the sample)."""
        described = json.loads(array.metadata)
        with self._lock:
            if self._image is None:
                self._image = _Image.read(self._location)
        if self._image.layout != described["layout"]:
            raise SourceFormatError(
                "the file was replaced since it was described. Run again, which reads what is there now",
                url=self._location.url,
            )
        strips, sample = described["strips"], described["sample"]
        return self._image, self._image.blocks.numbers(sample, index[0] * strips, index[1], strips), sample

    def _whole(self, offset: int, size: int) -> bytes:
        content = _read(self._location, offset, size)
        if len(content) != size:
            raise SourceFormatError(
                f"the file is cut: it has {len(content)} of the {size} bytes at {offset}", url=self._location.url
            )
        return content

    def _damaged(self, array: NativeArray, index: tuple[int, ...], why: str) -> SourceFormatError:
        return SourceFormatError(f"the block {index} of {array.name} can't be decoded: {why}", url=self._location.url)


def _read(location: Location, offset: int, size: int) -> bytes:
    """At most ``size`` bytes from ``offset``: one request. Raises DataIdNotFoundError, and as array stores do."""
    folder, _, name = location.url.rpartition("/")
    store = open_store(replace(location, url=folder))
    wanted = RangeByteRequest(offset, offset + size)
    found = sync(store.get(name, zarr.core.buffer.default_buffer_prototype(), wanted))
    if found is None:
        raise DataIdNotFoundError("there is no such file", url=location.url)
    content: bytes = found.to_bytes()
    if len(content) > size:
        # A server that knows no ranges: each block would be the whole file again.
        raise SourceFormatError(
            f"asked for {size} bytes, the server sends {len(content)}: it must know ranges (RFC 9110, 14)",
            url=location.url,
        )
    return content
