"""The whole way by a client that isn't ours: grant, search, order, poll, download, unzip, read."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile

from scs2_cubes.demo import region, world
from scs2_cubes.demo.genus import LEGEND
from scs2_cubes.demo.server import DemoServer
from scs2_cubes_tests.demo.clms_client import BLOCK, JSON, Client, item_of, request, unpack


@pytest.fixture(scope="module")
def running() -> Iterator[DemoServer]:
    with DemoServer() as server:
        server.clms.queue_seconds = 0.1
        yield server


@pytest.fixture(scope="module")
def client(running: DemoServer) -> Client:
    return Client(running.clms.api_url, running.clms.credentials())


def fetch(client: Client, name: str) -> dict[str, bytes]:
    task = client.wait(client.order_file(name))
    assert task["Status"] == "Finished_ok", task
    reply = request("GET", task["DownloadURL"])
    assert len(reply.content) == task["FileSize"]
    return unpack(reply.content)


def test_a_finished_task_tells_what_was_ordered(client: Client) -> None:
    task_id = client.order_file()
    assert re.fullmatch("[0-9]{1,11}", task_id)
    task = client.wait(task_id)
    item = item_of(client.api, "forest-type-2015")
    (file,) = (file for file in item["downloadable_files"]["items"] if file["file"] == BLOCK)
    assert set(task) == {
        *("Status", "UserID", "RegistrationDateTime", "FMETaskId", "FinalizationDateTime", "FileSize"),
        *("DownloadURL", "Message", "Datasets"),
    }
    (entry,) = task["Datasets"]
    assert (entry["DatasetID"], entry["FileID"]) == (item["UID"], file["@id"])
    assert set(entry) == {
        *("DatasetID", "DatasetTitle", "FileStructure", "FileID", "DatasetPath", "FilePath", "DatasetSource")
    }
    assert task["UserID"] == "n00015mf"
    assert task["Message"] == "Download process finished successfully"
    begun, ended = (datetime.fromisoformat(task[name]) for name in ("RegistrationDateTime", "FinalizationDateTime"))
    assert begun.utcoffset() == timedelta(0)
    assert begun < ended
    assert client.ask("GET", "@datarequest_status_get", params={"TaskID": task_id}).json() == task


def test_the_block_is_laid_out_as_the_real_one(client: Client) -> None:
    members = fetch(client, BLOCK)
    folder = f"{BLOCK}/{BLOCK}"
    assert set(members) == {
        f"{folder}{suffix}" for suffix in (".tif", ".tif.vat.dbf", ".clr", ".clr.txt", ".tfw", ".xml")
    }
    with MemoryFile(members[f"{folder}.tif"]) as memory, memory.open() as raster:
        assert raster.driver == "GTiff"
        assert raster.dtypes == ("uint8",)
        assert raster.nodata == 255
        assert raster.crs.to_epsg() == 3035
        assert raster.res == (20.0, 20.0)
        assert raster.compression.name == "lzw"
        assert not raster.profile["tiled"]
        assert raster.block_shapes[0][1] == raster.width
        assert raster.overviews(1) == []
        assert raster.tags()["AREA_OR_POINT"] == "Area"
        colours = raster.colormap(1)
        assert [colours[value][:3] for value in (0, 1, 2, 254, 255)] == [
            *((240, 240, 240), (70, 158, 74), (28, 92, 36), (153, 153, 153), (0, 0, 0))
        ]
        # On the lattice of the block whose corner is (3000000, 3000000).
        assert (raster.bounds.left - 3e6) % 20 == 0
        assert (3e6 - raster.bounds.top) % 20 == 0
        west, south, east, north = region.BBOX
        assert raster.bounds.left <= west - 1000
        assert raster.bounds.bottom <= south - 1000
        assert raster.bounds.right >= east + 1000
        assert raster.bounds.top >= north + 1000
        assert np.isin(raster.read(1), [0, 1, 2, 254, 255]).all()


def test_pixels_agree_with_the_genus_of_their_centres(client: Client) -> None:
    needles = {"larix", "picea", "pinus", "other_needleleaf"}
    expected = {code: 2 if name in needles else 1 for code, name in LEGEND.items()} | {7: 0, 255: 255}
    with MemoryFile(fetch(client, BLOCK)[f"{BLOCK}/{BLOCK}.tif"]) as memory, memory.open() as raster:
        types = raster.read(1)
        draw = np.random.default_rng(1)
        rows, cols = draw.integers(0, raster.height, 3000), draw.integers(0, raster.width, 3000)
        x, y = (np.array(values) for values in raster.xy(rows, cols))
    genus = world.genus(x, y)
    for code, got in zip(genus.tolist(), types[rows, cols].tolist(), strict=True):
        assert got == expected[code] or (got == 254 and code != 255)
    assert set(genus.tolist()) == {*LEGEND, 255}
    assert 0 < np.mean(types == 254) < 0.01


def test_there_are_unclassifiable_pixels_within_the_region(client: Client) -> None:
    with MemoryFile(fetch(client, BLOCK)[f"{BLOCK}/{BLOCK}.tif"]) as memory, memory.open() as raster:
        inside = raster.read(1, window=raster.window(*region.BBOX).round_offsets().round_lengths())
    assert {0, 1, 2, 254, 255} == set(np.unique(inside).tolist())


def test_world_file_and_value_table_agree_with_the_raster(client: Client, tmp_path: Path) -> None:
    for name, body in fetch(client, BLOCK).items():
        (tmp_path / Path(name).name).write_bytes(body)
    with rasterio.open(tmp_path / f"{BLOCK}.tif") as raster:
        transform, types = raster.transform, raster.read(1)
    numbers = [float(line) for line in (tmp_path / f"{BLOCK}.tfw").read_text().split()]
    assert numbers == [20.0, 0.0, 0.0, -20.0, transform.c + 10, transform.f - 10]
    table = (tmp_path / f"{BLOCK}.tif.vat.dbf").read_bytes()
    records, start, width = (
        int.from_bytes(table[4:8], "little"),
        int.from_bytes(table[8:10], "little"),
        int.from_bytes(table[10:12], "little"),
    )
    assert len(table) == start + records * width + 1
    rows = [table[start + i * width : start + (i + 1) * width] for i in range(records)]
    counts = {int(row[1:11]): int(float(row[11:30])) for row in rows}
    assert counts == {value: int((types == value).sum()) for value in (0, 1, 2, 254, 255)}


def test_the_file_in_many_parts_holds_the_same_pixels(client: Client) -> None:
    parts = [body for name, body in fetch(client, "FTY_2015_020m_eu_03035_d04_Full").items() if name.endswith(".tif")]
    assert len(parts) == 16
    with MemoryFile(fetch(client, BLOCK)[f"{BLOCK}/{BLOCK}.tif"]) as memory, memory.open() as raster:
        whole, corner = raster.read(1), raster.transform
    # A value that no file has, so that pixels in no part show.
    mosaic = np.full_like(whole, 77)
    for part in parts:
        with MemoryFile(part) as memory, memory.open() as raster:
            row, col = round((corner.f - raster.transform.f) / 20), round((raster.transform.c - corner.c) / 20)
            block = mosaic[row : row + raster.height, col : col + raster.width]
            assert (block == 77).all()
            block[:] = raster.read(1)
    np.testing.assert_array_equal(mosaic, whole)


def test_every_file_of_the_product_is_delivered(client: Client) -> None:
    names = [file["file"] for file in item_of(client.api, "forest-type-2015")["downloadable_files"]["items"]]
    ids = {client.order_file(name): name for name in names}
    for task_id, name in ids.items():
        task = client.wait(task_id)
        assert task["Status"] == "Finished_ok", name
        members = unpack(request("GET", task["DownloadURL"]).content)
        assert any(path.startswith(f"{name}/") and path.endswith(".tif") for path in members)
    assert "FTY_2015_100m_eu_03035_d02_Full/FTY_2015_100m_eu_03035_d02_full.tif" in fetch(
        client, "FTY_2015_100m_eu_03035_d02_Full"
    )


def test_several_files_of_one_order_are_one_task(client: Client) -> None:
    item = item_of(client.api, "forest-type-2015")
    wanted = [file["@id"] for file in item["downloadable_files"]["items"][2:4]]
    reply = client.order(*({"DatasetID": item["UID"], "FileID": file_id} for file_id in wanted))
    (task_id,) = (task["TaskID"] for task in reply.json()["TaskIds"])
    task = client.wait(task_id)
    assert [entry["FileID"] for entry in task["Datasets"]] == wanted
    with zipfile.ZipFile(io.BytesIO(request("GET", task["DownloadURL"]).content)) as outer:
        assert len([name for name in outer.namelist() if name.endswith(".zip")]) == 2


def structure(value: Any) -> Any:
    """Keys of a document, to any depth; of a list, those of its first entry."""
    if isinstance(value, dict):
        return {key: structure(inner) for key, inner in value.items()}
    return [structure(value[0])] if isinstance(value, list) and value else type(value).__name__


def recorded_json(recorded: Path, name: str) -> Any:
    path = recorded.parent / "clms" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    return json.loads(path.read_text())


def test_an_order_is_answered_as_recorded(client: Client, recorded: Path) -> None:
    item = item_of(client.api, "forest-type-2015")
    answer = client.order(*recorded_order(recorded, item)).json()
    assert structure(answer) == structure(recorded_json(recorded, "datarequest_post_201.json"))
    assert len(answer["TaskIds"]) == 1


def recorded_order(recorded: Path, item: dict[str, Any]) -> list[dict[str, str]]:
    """A recorded order, with files that are listed here."""
    entries: list[dict[str, str]] = recorded_json(recorded, "datarequest_post_body.json")["Datasets"]
    files = item["downloadable_files"]["items"]
    return [{**entry, "DatasetID": item["UID"], "FileID": files[i]["@id"]} for i, entry in enumerate(entries)]


def test_a_page_of_the_search_is_structured_as_recorded(client: Client, recorded: Path) -> None:
    theirs = recorded_json(recorded, "search_page1.json")
    fields = ("UID", "dataset_full_format", "dataset_download_information")
    query = [("portal_type", "DataSet"), *(("metadata_fields", name) for name in fields)]
    ours = request("GET", f"{client.api}/@search", params=query, headers=JSON).json()
    assert set(ours) == set(theirs)
    assert set(ours["batching"]) == set(theirs["batching"])
    assert len(ours["items"]) == len(theirs["items"])
    for item in ours["items"]:
        assert structure({**item, "dataset_full_format": None}).keys() == theirs["items"][0].keys()
    required = theirs["items"][0]["dataset_download_information"]["items"][0].keys()
    assert ours["items"][0]["dataset_download_information"]["items"][0].keys() == required


def test_a_pending_order_by_area_is_structured_as_recorded(running: DemoServer, recorded: Path) -> None:
    (theirs,) = recorded_json(recorded, "datarequest_search_in_progress.json").values()
    account = Client(running.clms.api_url, running.clms.credentials("n0000002"))
    running.clms.queue_seconds = 600
    try:
        ours = account.task(running.clms.add_custom_task("n0000002"))
    finally:
        running.clms.queue_seconds = 0.1
    assert set(ours) == set(theirs)
    # The recorded one is of a period instead of an area.
    assert set(ours["Datasets"][0]) - {"BoundingBox"} == set(theirs["Datasets"][0]) - {"TemporalFilter"}
