"""The forest type map by other means than ours: what the service delivers, and its majority, in numpy alone."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio

from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.demo.clms_client import Client, request, unpack
from scs2_cubes_tests.end_to_end.trial import Trial, region
from scs2_cubes_tests.preload.files import deliver

Array = npt.NDArray[Any]

FILE = "FTY_2015_020m_eu_03035_d04_E30N20"
FOREST = f"forest-type-2015|{FILE}"
NODATA = 255
#: Codes that a cube can have besides: none, broadleaved, coniferous, unclassifiable.
CODES = (0, 1, 2, 254)


@dataclass(frozen=True)
class Picture:
    """A GeoTIFF of 20 m pixels in EPSG:3035, rows from north to south."""

    codes: Array
    west: float
    north: float


def picture_of(tif: bytes) -> Picture:
    with rasterio.MemoryFile(tif) as memory, memory.open() as raster:
        assert (raster.transform.a, raster.transform.e, raster.nodata) == (20, -20, NODATA)
        assert raster.crs.to_epsg() == 3035
        return Picture(raster.read(1), raster.transform.c, raster.transform.f)


def delivered(server: DemoServer) -> Picture:
    """What the service hands out for an order of :data:`FILE`, asked by another client, in another account."""
    client = Client(server.clms.api_url, server.clms.credentials("n00099zz"))
    task = client.wait(client.order_file(FILE))
    files = unpack(request("GET", task["DownloadURL"]).content)
    (tif,) = (content for name, content in files.items() if name.endswith(".tif"))
    return picture_of(tif)


def clip_of(recorded: Path, folder: Path) -> tuple[Path, Picture]:
    """The recorded clip as an archive to deliver, and its picture."""
    with zipfile.ZipFile(io.BytesIO((recorded / "clms/FTY_2015_020m_mt_03035_d04_clip.zip").read_bytes())) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (tif,) = (content for name, content in members.items() if name.endswith(".tif"))
    return deliver(folder, members, "Results/clip.zip"), picture_of(tif)


def majority(picture: Picture, x: Array, y: Array) -> Array:
    """Codes (y, x) of target pixels of 30 m around centres ``x`` and ``y``: the code with the largest area.

    A tie goes to the code under the centre, if it is among the tied, else to the smallest; no value where more than
    half of a pixel has none.
    """
    columns = _overlap(x, picture.west, 20, picture.codes.shape[1])
    rows = _overlap(-y, -picture.north, 20, picture.codes.shape[0])
    areas = np.stack([rows @ (picture.codes == code) @ columns.T for code in CODES])
    col = np.floor((x - picture.west) / 20).astype(int)
    row = np.floor((picture.north - y) / 20).astype(int)
    inside = ((row >= 0) & (row < len(picture.codes)))[:, np.newaxis] & (col >= 0) & (col < picture.codes.shape[1])
    under = picture.codes[np.clip(row, 0, len(picture.codes) - 1)][:, np.clip(col, 0, picture.codes.shape[1] - 1)]
    best = areas.max(axis=0)
    # Areas are of the order of 900 m²: rounding, no difference anybody meant.
    tied = areas > best - 1e-3
    found = np.asarray(CODES)[tied.argmax(axis=0)]
    for code, ties in zip(CODES, tied, strict=True):
        found = np.where(inside & (under == code) & ties, code, found)
    return np.where(areas.sum(axis=0) < 450 - 1e-3, NODATA, found).astype(np.uint8)


def _overlap(centres: Array, start: float, step: float, count: int) -> Array:
    """Metres that each target pixel of 30 m shares with each of ``count`` source pixels, along one axis."""
    low = start + step * np.arange(count)
    first, last = (centres - 15)[:, np.newaxis], (centres + 15)[:, np.newaxis]
    shared: Array = np.clip(np.minimum(last, low + step) - np.maximum(first, low), 0, None)
    return shared


def with_forest_type(trial: Trial, bbox: list[int], tile_size: int = 64) -> Trial:
    """``trial`` with one dataset, the forest type map, on one region, and a service key of its own."""
    key = trial.folder / "key.json"
    trial.server.clms.write_credentials(key)
    clms = {"credentials": str(key), "api_url": trial.server.clms.api_url}
    trial.data["data_stores"] = [
        *trial.data["data_stores"][:2],
        {"identifier": "clms", "store_id": "clms", "store_params": clms},
    ]
    trial.data["preload_datasets"] = [{"store": "clms", "data_ids": [FOREST]}]
    trial.data["grid_mappings"] = [region("here", bbox, tile_size)]
    trial.data["datasets"] = [
        {"identifier": "forest", "store": "clms", "data_id": f"{FOREST}.zarr", "grid_mapping": "here"}
    ]
    return trial


def orders(server: DemoServer) -> int:
    """How many orders the service was given."""
    return sum(request.path.endswith("/@datarequest_post") for request in server.requests.entries())
