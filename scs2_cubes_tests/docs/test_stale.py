"""What ``configs/README.md`` says that a change leads to, against the planner and the storage."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import DatasetSpec
from scs2_cubes.demo import region as demo_region
from scs2_cubes.demo.catalogue import Catalogue
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.pipeline.cubes import PlannedPartition, describe_source, plan_partition
from scs2_cubes_tests.docs.cases import CONFIGS, REFERENCE, load_changed
from scs2_cubes_tests.docs.markdown import code_spans, tables

Change = Callable[[dict[str, Any]], object]


def _dataset(**changes: Any) -> Change:
    return lambda data: data["datasets"][0].update(changes)


def _grid(**changes: Any) -> Change:
    return lambda data: data["grid_mappings"][0].update(changes)


def _stores(data: dict[str, Any], **changes: Any) -> None:
    data["data_stores"][1]["store_params"].update(changes)


def _rename_region(data: dict[str, Any]) -> None:
    data["grid_mappings"][0]["identifier"] = data["datasets"][0]["grid_mapping"] = "other"


def _rename_region_with_folder(data: dict[str, Any]) -> None:
    data["grid_mappings"][0]["identifier"] = "other"
    data["datasets"][0]["grid_mapping"] = ["other"]


def _rename_store(data: dict[str, Any]) -> None:
    data["data_stores"][1]["identifier"] = data["datasets"][0]["store"] = "other"


def _sites_elsewhere(data: dict[str, Any]) -> None:
    data["sites"] = [{"identifier": "one", "point": [-1.1, 44.55]}]


WEST, SOUTH, EAST, NORTH = demo_region.BBOX
#: First words of what follows → key (the first code span that the row's part has) → changes that must lead to it.
PROBES: Mapping[str, Mapping[str, tuple[Change, ...]]] = {
    "nothing": {
        "general": (lambda data: data.update(general={"visualize": False, "retry": {"max_attempts": 3}}),),
        "dask": (lambda data: data.update(dask={"n_workers": 1}),),
        "automation": (
            lambda data: data.update(automation={"interval": 30, "sensors": "running"}),
            _dataset(automation="on_new_version"),
        ),
        "sites": (lambda data: data.pop("sites"), _sites_elsewhere),
        "quicklook_times": (_dataset(quicklook_times=["2010-01-01", "2020-01-01"]),),
        "url": (lambda data: _stores(data, url=f"{data['data_stores'][1]['store_params']['url']}?other"),),
        "href_rewrite": (lambda data: data["data_stores"][1]["store_params"]["href_rewrite"].update(a="b"),),
        "bbox": (_grid(bbox=[WEST, SOUTH, EAST + 5, NORTH + 5]),),
        "crs": (_grid(crs="epsg:3035"), _grid(crs="urn:ogc:def:crs:EPSG::3035")),
        "the name of a store": (_rename_store,),
        "of a region without a folder": (_rename_region,),
        "module_path": (),  # these two: see the test with a function before and after
        "timeout": (),
    },
    "stale": {
        "data_id": (_dataset(data_id="structure-demography/GAMI/GAMI_v3.0/GAMI_v3.0.json"),),
        "time_range": (_dataset(open_params={"time_range": ["2019-01-01", None]}),),
        "open_params.bbox": (
            _dataset(open_params={"time_range": ["2020-01-01", None], "bbox": [-1.2, 44.5, -1.1, 44.6]}),
        ),
        "custom_processing": (_dataset(custom_processing={"module_path": "mean.py", "function_name": "mean"}),),
        "interp_methods": (_dataset(spatial_resample_params={"interp_methods": "nearest"}),),
        # GAMI's pixels are larger than the region's, and 0 isn't its nodata; see the test with other products.
        "agg_methods": (),
        "zero": (),
    },
    "refused": {
        "bbox": (_grid(bbox=[WEST, SOUTH, EAST + 60, NORTH]), _grid(bbox=[WEST + 1, SOUTH, EAST, NORTH])),
        "crs": (_grid(crs="EPSG:3857", bbox=[-145000, 5500000, -124014, 5519183]),),
        "spatial_res": (_grid(spatial_res=60),),
        "tile_size": (_grid(tile_size=128),),
        "time_range": (
            _dataset(open_params={}),
            _dataset(open_params={"time_range": ["2000-01-01", None]}),
        ),
        "zarr_format": (_dataset(zarr_format=3),),
        "statistics": (
            _dataset(statistics={"forest_age": "median"}),
            _dataset(statistics={"forest_age": ["mean", "std"]}),
        ),
        "fill_values": (_dataset(spatial_resample_params={"fill_values": -1}),),
        "chunksize": (_dataset(chunksize={"x": 128}),),
        "variable_names": (),  # GAMI has just one; see the test with a product that has several
    },
    "elsewhere": {
        "identifier": (_dataset(identifier="other"),),
        "root": (lambda data: data["data_stores"][0]["store_params"].update(root="elsewhere"),),
        "grid_mapping": (_dataset(grid_mapping=["demo"]), _rename_region_with_folder),
    },
}


def _stale_rows() -> dict[str, str]:
    (table,) = (table for table in tables(REFERENCE) if table.columns[0] == "change")
    rows: dict[str, str] = {}
    for change, follows in table.rows:
        word = re.match(r"\w+", follows)[0]  # type: ignore[index]  # no match: the test fails here
        rows[word] = f"{rows.get(word, '')} {change}"
    return rows


#: What the platform does with members, as a function.
MEAN = 'def mean(ds):\n    return ds.mean("members")\n'
#: Of GAMI's two years this is the second one.
FROM_2020 = {"time_range": ["2020-01-01", None]}


class Planner:
    """Plans one of the demonstration's datasets, in a configuration that is changed a little."""

    def __init__(self, folder: Path, server: DemoServer) -> None:
        self.folder = folder
        self.server = server
        self.sources: dict[tuple[str, str], NativeDataset] = {}

    def plan(self, change: Change, identifier: str = "gami") -> PlannedPartition:
        (self.folder / "mean.py").write_text(MEAN, encoding="utf-8")
        data = yaml.safe_load((CONFIGS / "demo.yml").read_text(encoding="utf-8"))
        (dataset,) = (one for one in data["datasets"] if one["identifier"] == identifier)
        data["datasets"] = [
            {**dataset, "grid_mapping": "demo"} | ({"open_params": FROM_2020} if identifier == "gami" else {})
        ]
        change(data)
        environ = {"SCS2_DEMO_URL": self.server.url, "SCS2_DEMO_ROOT": str(self.folder / "cubes")}
        case = load_changed(self.folder, data, environ)
        (planned,) = case.datasets
        return plan_partition(planned, case.storage, self._describe(planned), planned.partition_keys[0])

    def _describe(self, dataset: DatasetSpec) -> NativeDataset:
        key = (str(dataset.store.params["url"]), dataset.data_id)
        if key not in self.sources:
            self.sources[key] = describe_source(dataset)
        return self.sources[key]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue) -> Iterator[Planner]:
    with DemoServer(catalogue=catalogue) as server:
        planner = Planner(tmp_path_factory.mktemp("planner"), server)
        before = planner.plan(_dataset())
        before.store.create(before.plan.schema)
        yield planner


def _follows(before: PlannedPartition, after: PlannedPartition) -> str:
    if after.store.url != before.store.url:
        return "elsewhere"
    if after.store.differences(after.plan.schema):
        return "refused"
    return "nothing" if after.plan.data_version == before.plan.data_version else "stale"


def test_every_key_of_the_table_of_changes_is_tried() -> None:
    rows = _stale_rows()
    assert set(rows) == set(PROBES)
    for word, probes in PROBES.items():
        assert set(code_spans(rows[word])) - {"run"} == {key for key in probes if " " not in key}
        assert all(key in rows[word] for key in probes)


@pytest.mark.parametrize(
    ("word", "change"),
    [
        pytest.param(word, change, id=f"{word}-{key}-{number}")
        for word, probes in PROBES.items()
        for key, changes in probes.items()
        for number, change in enumerate(changes)
    ],
)
def test_what_a_change_leads_to(planner: Planner, word: str, change: Change) -> None:
    assert _follows(planner.plan(_dataset()), planner.plan(change)) == word


def test_another_name_of_a_region_with_a_folder_is_another_place(planner: Planner) -> None:
    first, other = planner.plan(_dataset(grid_mapping=["demo"])), planner.plan(_rename_region_with_folder)
    assert first.store.url != other.store.url


def test_new_content_makes_stale(planner: Planner, catalogue: Catalogue) -> None:
    before = planner.plan(_dataset())
    catalogue.publish("GAMI", 2)
    try:
        fresh = Planner(planner.folder, planner.server)
        assert _follows(before, fresh.plan(_dataset())) == "stale"
    finally:
        catalogue.publish("GAMI", 1)


def test_one_variable_less_is_another_cube(planner: Planner) -> None:
    before = planner.plan(_dataset(), "liu")
    names = [layer.name for layer in before.plan.schema.layers]
    before.store.create(before.plan.schema)
    same = planner.plan(_dataset(open_params={"variable_names": names}), "liu")
    assert _follows(before, same) == "nothing"
    fewer = planner.plan(_dataset(open_params={"variable_names": names[1:]}), "liu")
    assert _follows(before, fewer) == "refused"


def test_a_functions_place_and_patience_are_no_matter(planner: Planner) -> None:
    (planner.folder / "other.py").write_text(MEAN, encoding="utf-8")
    (planner.folder / "changed.py").write_text(f"{MEAN}# Not the same text.\n", encoding="utf-8")

    def plan(module: str, **params: Any) -> PlannedPartition:
        section = {"module_path": module, "function_name": "mean", **params}
        return planner.plan(_dataset(custom_processing=section))

    before = plan("mean.py")
    assert _follows(before, plan("other")) == "nothing"
    assert _follows(before, plan("mean.py", timeout=5)) == "nothing"
    assert _follows(before, plan("changed")) == "stale"
    assert _follows(before, plan("mean.py", processing="whole")) == "stale"


@pytest.mark.parametrize(
    ("identifier", "change"),
    [
        ("forestpaths_genus", _dataset(spatial_resample_params={"agg_methods": "center"})),
        ("liu", _dataset(zero={"canopy_height": "value"})),
    ],
)
def test_another_way_to_the_same_cube(planner: Planner, identifier: str, change: Change) -> None:
    before = planner.plan(_dataset(), identifier)
    before.store.create(before.plan.schema)
    assert _follows(before, planner.plan(change, identifier)) == "stale"


def test_methods_for_another_direction_are_no_matter(planner: Planner) -> None:
    changed = planner.plan(_dataset(spatial_resample_params={"agg_methods": "max"}))
    assert _follows(planner.plan(_dataset()), changed) == "nothing"


def test_cubes_name_the_original_addresses(planner: Planner) -> None:
    attrs = planner.plan(_dataset()).plan.schema.attrs
    assert attrs["source"].startswith("https://s3.gfz-potsdam.de/")
    assert planner.server.url not in str(attrs)
