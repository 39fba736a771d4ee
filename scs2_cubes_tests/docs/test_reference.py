"""``configs/README.md`` against the schema and the loader."""

from __future__ import annotations

import ast
import copy
import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyproj import Transformer

from scs2_cubes.config import json_schema, load_case, support
from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import AutomationSpec, Case, PreloadSpec, StorageSpec
from scs2_cubes.errors import ConfigurationError
from scs2_cubes.pipeline.plan import specification_version
from scs2_cubes_tests.docs.cases import BASE, CASE, CONFIGS, REFERENCE, load_changed
from scs2_cubes_tests.docs.markdown import blocks, code_spans, headings, links, tables

STATUSES = {"yes", "partly", "no effect", "not yet", "extension"}
#: Sections whose keys the schema leaves to the protocols.
OPEN_SECTIONS = ("datasets[].open_params", "data_stores[].store_params", "preload_datasets[].preload_params")
#: Parameters of stores that today's users don't have.
OWN_STORE_PARAMS = {"api_url", "cache", "cache_size", "href_rewrite", "max_connections"}


@dataclass(frozen=True)
class Row:
    """A key as the reference describes it."""

    default: str
    status: str


@dataclass(frozen=True)
class Key:
    """A key as the JSON schema describes it, in each of the forms of an entry that have it."""

    schemas: tuple[Mapping[str, Any], ...]
    required: bool
    is_extension: bool


def _documented() -> dict[str, Row]:
    """Key path → row, from the tables whose first column is ``key``."""
    found: dict[str, Row] = {}
    for table in tables(REFERENCE):
        if table.columns[0] != "key":
            continue
        section = "".join(code_spans(table.heading))
        for cells in table.rows:
            assert len(cells) == len(table.columns) == 5, cells
            for key in code_spans(cells[0]):
                path = f"{section}.{key}" if section else key
                assert path not in found, path
                found[path] = Row(default=cells[2], status=cells[3])
    return found


def _refused() -> dict[str, tuple[str, ...]]:
    """Section → its keys, from the table of refused sections."""
    (table,) = (table for table in tables(REFERENCE) if table.columns == ("section", "keys"))
    return {
        code_spans(section)[0]: tuple(span for span in code_spans(keys) if not span.startswith("."))
        for section, keys in table.rows
    }


def _schema_keys() -> dict[str, Key]:
    """Key path → key, breadth first: a form that stands in several places counts where it comes first."""
    schema = json_schema()
    definitions = schema["$defs"]
    owners: dict[str, list[tuple[bool, Mapping[str, Any], bool]]] = {}
    seen: set[str] = set()
    queue: list[tuple[str, Any, bool]] = [("", schema, False)]
    while queue:
        path, node, inherited = queue.pop(0)
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            if name not in seen:
                seen.add(name)
                queue.append((path, definitions[name], inherited))
            continue
        queue += [(path, branch, inherited) for branch in (*node.get("anyOf", ()), *node.get("oneOf", ()))]
        if "items" in node:
            queue.append((f"{path}[]", node["items"], inherited))
        extension = inherited or _says_extension(node)
        for key, value in node.get("properties", {}).items():
            full = f"{path}.{key}" if path else key
            own = extension or _says_extension(value)
            owners.setdefault(full, []).append((key in node.get("required", ()), value, own))
            queue.append((full, value, own))
    return {
        path: Key(tuple(value for _, value, _ in found), all(r for r, _, _ in found), all(e for _, _, e in found))
        for path, found in owners.items()
    }


def _says_extension(node: Mapping[str, Any]) -> bool:
    return str(node.get("description", "")).startswith("Extension")


DOCUMENTED = _documented()
REFUSED = _refused()
SCHEMA = _schema_keys()
NOT_YET = sorted(path for path, row in DOCUMENTED.items() if row.status == "not yet")


def _section(path: str) -> str:
    return path.rpartition(".")[0]


def test_every_key_is_in_the_reference_and_no_other_is() -> None:
    named = {path for path in DOCUMENTED if path in SCHEMA or _section(path) not in OPEN_SECTIONS}
    named |= {f"{section}.{key}" for section, keys in REFUSED.items() for key in keys}
    assert named == set(SCHEMA)


def test_the_protocols_parameters_are_in_the_reference() -> None:
    ours = {path for path in DOCUMENTED if _section(path) in OPEN_SECTIONS}
    known = {f"datasets[].open_params.{key}" for key in support._OPEN_PARAMS | support._OTHER_OPEN_PARAMS}
    params = support._PRELOAD_PARAMS | support._OTHER_PRELOAD_PARAMS
    known |= {f"preload_datasets[].preload_params.{key}" for key in params}
    for protocols in (support._SOURCES, support._STORAGES):
        known |= {f"data_stores[].store_params.{key}" for keys in protocols.values() for key in keys}
    assert ours == known


@pytest.mark.parametrize("path", sorted(set(DOCUMENTED) & set(SCHEMA)))
def test_defaults(path: str) -> None:
    default, key = DOCUMENTED[path].default, SCHEMA[path]
    assert (default == "required") == key.required
    patience = {field.name: field.default for field in fields(RetryPolicy)}
    for schema in () if key.required else key.schemas:
        expected = schema["default"]
        if path.startswith("general.retry."):
            # Left out, it's the policy's.
            assert expected is None
            expected = patience[path.rpartition(".")[2]]
        stated = None if default == "none" else yaml.safe_load(re.fullmatch(r"`(.*)`", default)[1])  # type: ignore[index]  # no match: the test fails here
        assert stated == expected


@pytest.mark.parametrize("path", sorted(DOCUMENTED))
def test_extensions_are_marked(path: str) -> None:
    status = DOCUMENTED[path].status
    assert status in STATUSES
    # A status that says more than "extension" would hide that it is one.
    section, _, key = path.rpartition(".")
    ours = section == "data_stores[].store_params" and key in OWN_STORE_PARAMS
    expected = SCHEMA[path].is_extension if path in SCHEMA else ours
    assert (status == "extension") == expected


# What is stated as supported is taken, what isn't is refused.

GAMI = BASE["datasets"][0]

ACCEPTED = (
    """
    datasets:
      - identifier: a/gami
        store: eo
        data_id: x
        grid_mapping: [one, many]
        open_params: {time_range: [2020-01-01, null], variable_names: [a], bbox: [0, 0, 9, 9], crs: EPSG:4326}
        format_id: zarr
        zarr_format: 3
        statistics: {a: [mean, std]}
        zero: {a: value}
        spatial_resample_params:
          interp_methods: nearest
          agg_methods: {a: max}
          fill_values: .nan
          variables: [a]
          error_model: independent
          recover_nans: true
          prevent_nan_propagations: false
        chunksize: {y: 1, x: 1, time: 1}
        automation: on_new_version
        quicklook_times: [2010-01-01, "2020-01-01"]
      - identifier: by_function
        store: eo
        data_id: x
        grid_mapping: one
        custom_processing: {module_path: functions, function_name: modify_efda, processing: whole, timeout: 5}
        spatial_resample_params: {tile_size: [8, 4]}
        chunksize: {lat: 2, lon: 4}
    data_stores:
      - {identifier: storage, store_id: file, store_params: {root: there}}
      - identifier: eo
        store_id: stac
        store_params: {url: catalog.json, href_rewrite: {a: b}}
      - identifier: archive
        store_id: clms
        store_params: {credentials: key.json, api_url: "https://h/api", cache: "s3://bucket/cache"}
      - identifier: older
        store_id: clms
        store_params: {credentials: '{"client_id": "x"}', cache_store_params: {root: fetched}}
      - identifier: portal
        store_id: cciodp
        store_params: {endpoint_url: "https://h/s", endpoint_description_url: "https://h/d", max_connections: 2,
                       cache_size: 5000000000}
    grid_mappings:
      - {identifier: one, bbox: [0, 0, 90, 90], crs: EPSG:3035, spatial_res: [30, 10], tile_size: [8, 4]}
      - {identifier: many, table: sites.csv, crs: EPSG:3035, spatial_res: 30, tile_size: 512}
    preload_datasets:
      - {store: archive, data_ids: ["a|b", "a|c.zarr"], preload_params: {max_wait: 1, cleanup: false, blocking: true,
                                                                              silent: true}}
      - {store: older, data_ids: "a|b"}
    general:
      visualize: false
      force_preload: true
      gdal_http_params: {gdal_http_max_retry: 2, gdal_http_retry_delay: 1}
      retry: {deadline: 5, max_attempts: 2, initial_wait: 1, max_wait: 2, timeout: 3}
    dask: {mode: local, n_workers: 1, threads_per_worker: 2, memory_limit: 4GiB}
    automation: {interval: 30, sensors: stopped}
    sites:
      - {identifier: degrees, point: [1, 44]}
      - {identifier: metres, point: [45, 45], crs: EPSG:3035}
    """,
    """
    data_stores:
      - {identifier: storage, store_id: s3, store_params: {root: bucket/cubes, storage_options: {key: "${K:-k}"}}}
      - {identifier: eoforest_stac, store_id: stac, store_params: {url: catalog.json}}
      - {identifier: maps, store_id: file, store_params: {root: maps}}
      - {identifier: archive, store_id: s3, store_params: {root: "s3://bucket", storage_options: {anon: true}}}
      - {identifier: web, store_id: https, store_params: {root: "https://h/forest"}}
    """,
    "dask: {mode: address, address: 'tcp://127.0.0.1:8786', steps: true}",
    "general: {dask_scheduler: sync}",
)
SAMPLES: dict[str, Any] = {
    "preload_datasets[].preload_params.tile_size": 2048,
    "datasets[].variables": [{"identifier": "v", "store": "eoforest_stac", "data_id": "x"}],
    "datasets[].temporal_resample_params": {"frequency": "1YE"},
    "datasets[].xr_merge_params": {"join": "exact"},
    "datasets[].open_params.spatial_res": 30,
    "datasets[].open_params.point": [0, 1],
    "datasets[].open_params.bbox_width": 100,
    "datasets[].open_params.tile_size": 512,
}


def _key_paths(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            full = f"{path}.{key}" if path else key
            yield full
            yield from _key_paths(item, full)
    elif isinstance(value, list):
        for item in value:
            yield from _key_paths(item, f"{path}[]")


def test_what_is_stated_as_supported_is_accepted(tmp_path: Path) -> None:
    tried: set[str] = set()
    for text in ACCEPTED:
        data = yaml.safe_load(text)
        load_changed(tmp_path, data)
        tried |= set(_key_paths(data))
    assert {path for path, row in DOCUMENTED.items() if row.status != "not yet"} <= tried


@pytest.mark.parametrize("path", NOT_YET)
def test_what_is_stated_as_not_yet_is_refused(tmp_path: Path, path: str) -> None:
    data = copy.deepcopy(CASE)
    *way, last = path.replace("[]", ".0").split(".")
    place: Any = data
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    place[last] = SAMPLES[path]
    if last == "variables":
        del place["store"], place["data_id"]
    with pytest.raises(ConfigurationError) as refused:
        load_changed(tmp_path, data)
    _, *lines = str(refused.value).split("\n")
    assert len(lines) == 1
    shown = re.escape(path.replace("[]", "[0]"))
    assert re.match(rf"  {shown}(\[0\])?: .*isn't supported yet", lines[0])


@pytest.mark.parametrize("section", sorted(REFUSED))
def test_refused_sections_are_those_of_refused_keys(section: str) -> None:
    assert DOCUMENTED[section.removesuffix("[]")].status == "not yet"


@pytest.mark.parametrize(
    ("key", "value", "accepted"),
    [
        ("format_id", "netcdf", False),
        ("format_id", "levels", False),
        ("format_id", "zarr", True),
        ("store_id", "zenodo", False),
        *(("store_id", name, True) for name in ("stac", "file", "s3", "https", "clms", "cciodp")),
    ],
)
def test_values_that_are_partly_supported(tmp_path: Path, key: str, value: str, *, accepted: bool) -> None:
    data = copy.deepcopy(BASE)
    place = data["datasets"][0] if key == "format_id" else data["data_stores"][1]
    place[key] = value
    if key == "store_id":
        known = {
            "stac": {"url": "x"},
            "clms": {"credentials": "x"},
            "file": {"root": "x"},
            "s3": {"root": "bucket"},
            "https": {"root": "https://h"},
        }
        place["store_params"] = known.get(value, {})
        for entry in data["datasets"]:
            entry["data_id"] = {"clms": "a|b", "cciodp": "esacci.b.c.d.e.f.g.h.i.j"}.get(value, entry["data_id"])
    if accepted:
        load_changed(tmp_path, data)
    else:
        with pytest.raises(ConfigurationError, match="isn't supported yet"):
            load_changed(tmp_path, data)


def test_gdals_parameters_go_before_the_defaults_of_retry(tmp_path: Path) -> None:
    def policy(general: dict[str, Any]) -> RetryPolicy:
        return load_changed(tmp_path, {"general": general}).stores[0].retry

    empty = policy({"gdal_http_params": {}})
    assert (empty.max_attempts, empty.initial_wait) == (11, 5)
    assert "11 attempts and 5 s" in REFERENCE
    assert policy({"gdal_http_params": {"gdal_http_retry_delay": 60}}).max_wait == 60
    both = policy({"gdal_http_params": {}, "retry": {"max_attempts": 3}})
    assert (both.max_attempts, both.initial_wait) == (3, 5)


# Paths, places, partitions.


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    stores: list[dict[str, Any]] = [
        {"identifier": "storage", "store_id": "file"},
        {"identifier": "eoforest_stac", "store_id": "stac", "store_params": {"url": "catalogue/catalog.json"}},
    ]
    case = load_changed(tmp_path, {"data_stores": stores})
    assert DOCUMENTED["data_stores[].store_params.root"].default == "`data`"
    assert case.storage.root == str(here / "data")
    assert case.stores[0].params["url"] == str(tmp_path / "catalogue/catalog.json")
    assert DOCUMENTED["data_stores[].store_params.url"].default == "required"
    del stores[1]["store_params"]
    with pytest.raises(ConfigurationError, match=r"store_params\.url: required key is missing"):
        load_changed(tmp_path, {"data_stores": stores})


def test_partitions_are_called_as_the_reference_says(tmp_path: Path) -> None:
    france = BASE["grid_mappings"][0] | {"identifier": "france", "bbox": [3200000, 2000000, 4300000, 3150000]}
    datasets = [
        GAMI | {"identifier": "small"},
        GAMI | {"identifier": "large", "grid_mapping": "france"},
        {key: value for key, value in GAMI.items() if key != "grid_mapping"} | {"identifier": "own"},
    ]
    case = load_changed(tmp_path, {"grid_mappings": [*BASE["grid_mappings"], france], "datasets": datasets})
    small, large, own = case.datasets
    spans = code_spans(REFERENCE)
    assert small.partition_keys == ("landes",)
    assert large.partition_keys[:2] == ("france-y00x00", "france-y00x01")
    assert own.partition_keys == ("native",)
    assert {"landes", "france-y00x00", "france-y00x01", "native"} <= set(spans)
    north_west = large.partitions[0].window
    assert (north_west.row_start, north_west.col_start) == (0, 0)
    # Four tiles of 2048.
    assert north_west.shape == (8192, 8192)


@pytest.mark.parametrize(
    ("grid_mapping", "folders"), [("landes", False), (["landes"], True), ("first", True), ("sites", True)]
)
def test_cubes_lie_in_folders_where_the_reference_says(tmp_path: Path, grid_mapping: Any, *, folders: bool) -> None:
    sites = {"identifier": "sites", "table": "sites.csv", "crs": "EPSG:3035", "spatial_res": 30}
    datasets = [
        GAMI | {"identifier": "last", "grid_mapping": grid_mapping},
        GAMI | {"identifier": "first", "grid_mapping": ["landes"]},
    ]
    case = load_changed(tmp_path, {"grid_mappings": [*BASE["grid_mappings"], sites], "datasets": datasets})
    assert case.dataset("last").region_folders == folders


# The blocks.


def test_the_function_is_the_cases_own() -> None:
    (shown,) = blocks(REFERENCE, "python")
    (function,) = ast.parse(shown).body
    module = ast.parse((CONFIGS / "functions.py").read_text(encoding="utf-8"))
    own = next(node for node in module.body if getattr(node, "name", None) == "modify_efda")
    assert isinstance(function, ast.FunctionDef)
    assert isinstance(own, ast.FunctionDef)
    # Without its docstring.
    assert [ast.dump(node) for node in function.body] == [ast.dump(node) for node in own.body[1:]]


def test_example_of_preloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = yaml.safe_load(next(text for text in blocks(REFERENCE, "yaml") if "preload_datasets" in text))
    case = load_changed(tmp_path, data)
    (store,), (dataset,) = case.stores, case.datasets
    assert store.params["credentials"] == str(tmp_path / "clms-credentials.json")
    assert store.cache == StorageSpec(str(tmp_path / "data" / ".cache" / "clms"))
    file = "FTY_2015_020m_eu_03035_d04_E30N20"
    assert case.preloads == (PreloadSpec(store, f"forest-type-2015|{file}", max_wait=10800),)
    assert [variable.name for variable in dataset.product.variables] == [file]  # type: ignore[union-attr]  # no product: the test fails here
    # What isn't named is fetched all the same.
    assert load_changed(tmp_path, {**data, "preload_datasets": []}).preloads == (
        PreloadSpec(store, f"forest-type-2015|{file}"),
    )
    params = data["data_stores"][1]["store_params"]
    params |= {"credentials": "{}", "api_url": "https://mirror.example/api", "cache": "elsewhere"}
    data["preload_datasets"][0] |= {"data_ids": "other|file", "preload_params": {"max_wait": 1}}
    data["datasets"][0]["data_id"] = data["datasets"][0]["data_id"].removesuffix(".zarr")
    other = load_changed(tmp_path, data)
    assert specification_version(other.datasets[0]) == specification_version(dataset)
    assert len(other.preloads) == 2
    assert other.stores != case.stores


@pytest.mark.parametrize("text", [text for text in blocks(REFERENCE, "yaml") if "clms" not in text])
@pytest.mark.parametrize("table", ["csv", "json"])
def test_examplesload_changed(tmp_path: Path, text: str, table: str) -> None:
    (example,) = blocks(REFERENCE, table)
    suffix = {"csv": "csv", "json": "geojson"}[table]
    (tmp_path / f"sites.{suffix}").write_text(example, encoding="utf-8")
    data = yaml.safe_load(text.replace("sites.csv", f"sites.{suffix}"))
    if "eoforest_stac" not in text:
        # Something for each of the example's stores to be read by.
        names = [store["identifier"] for store in data["data_stores"][1:]] or ["eoforest_stac"]
        if len(data["data_stores"]) == 1:
            data["data_stores"].append(BASE["data_stores"][1])
        data["datasets"] = [GAMI | {"identifier": name, "store": name} for name in names]
    case = load_changed(tmp_path, data, {"S3_KEY": "k", "S3_SECRET": "s"})
    if "s3" in text and "href_rewrite" not in text:
        assert case.storage.root.startswith("s3://") or {store.protocol for store in case.stores} >= {"s3", "https"}
    elif "grid_mappings" in data:
        bilos = case.regions[0]
        assert bilos.name == "bilos"
        # The polygon lies around the same place as the row of the CSV example.
        west, south, east, north = bilos.grid.bbox
        assert west < 3456124 < east
        assert south < 2439077 < north
    elif "automation" in data:
        _holds_the_example_of_automation(case)
    else:
        assert dict(case.stores[0].href_rewrite)["https://s3.gfz-potsdam.de"] == "http://127.0.0.1:8765"
        mirrored = load_changed(tmp_path, data, {"MIRROR": "http://mirror.example"})
        assert dict(mirrored.stores[0].href_rewrite)["https://s3.gfz-potsdam.de"] == "http://mirror.example"


def _holds_the_example_of_automation(case: Case) -> None:
    assert case.automation == AutomationSpec(interval=900, running=True)
    assert [dataset.remade_on_new_version for dataset in case.datasets] == [True]
    assert case.datasets[0].quicklook_times == ("2010-01-01", "2020-01-01")
    # Both sites lie in the table's regions of the same names, and so in landes.
    assert case.warnings == ()
    with (CONFIGS / "sites.csv").open(encoding="utf-8") as table:
        boxes = {row["identifier"]: row for row in csv.DictReader(table)}
    for site in case.sites:
        x, y = Transformer.from_crs(site.crs, "EPSG:3035", always_xy=True).transform(site.x, site.y)
        box = boxes[site.name]
        assert float(box["west"]) < x < float(box["east"])
        assert float(box["south"]) < y < float(box["north"])


def test_errors_look_like_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = {key: value for key, value in GAMI.items() if key != "grid_mapping"} | {
        "store": "eoforst_stac",
        "grid_maping": "landes",
        "temporal_resample_params": SAMPLES["datasets[].temporal_resample_params"],
        "open_params": {"point": [0, 1]},
    }
    Path("case.yml").write_text(yaml.safe_dump(BASE | {"datasets": [wrong]}), encoding="utf-8")
    with pytest.raises(ConfigurationError) as refused:
        load_case("case.yml", environ={})
    (shown,) = blocks(REFERENCE, "text")
    assert shown == f"error: {refused.value}\n"


def test_links_lead_somewhere() -> None:
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(REFERENCE)}
    for target in links(REFERENCE):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif "://" not in target:
            assert (CONFIGS / target).exists(), target
