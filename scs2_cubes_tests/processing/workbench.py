"""A configuration that can be changed and made into cubes, with functions in a module beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from scs2_cubes.api import open_cube
from scs2_cubes.config import load_case
from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import Case, DaskSpec
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.pipeline.compute import open_compute
from scs2_cubes.pipeline.cubes import PlannedPartition, describe_source, plan_partition
from scs2_cubes.pipeline.materialize import materialize_partition, prepare_cube
from scs2_cubes_tests.end_to_end.trial import Ended, in_process
from scs2_cubes_tests.processing.archive import BBOX, LAEA

#: One thread: xarray's reductions switch warnings off and on, which isn't safe between threads; here they are errors.
ONE_THREAD = DaskSpec(n_workers=1)


class Workbench:
    """A folder with a configuration ``case.yml``, cubes, and modules of functions."""

    def __init__(self, folder: Path, catalogue: str, rewrite: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.root = folder / "cubes"
        params: dict[str, Any] = {"url": catalogue} | ({"href_rewrite": rewrite} if rewrite else {})
        self.data: dict[str, Any] = {
            "data_stores": [
                {"identifier": "storage", "store_id": "file", "store_params": {"root": str(self.root)}},
                {"identifier": "archive", "store_id": "stac", "store_params": params},
            ],
            "grid_mappings": [],
            "datasets": [],
            "general": {"retry": {"max_attempts": 2, "initial_wait": 0.01, "deadline": 5}},
        }
        self.add_region("here", BBOX, tile_size=16)

    @classmethod
    def of_archive(cls, folder: Path, archive: Path) -> Workbench:
        """Reads the small archive in the folder ``archive``."""
        return cls(folder, str(archive / "catalog.json"))

    @classmethod
    def of_server(cls, folder: Path, server: DemoServer) -> Workbench:
        """Reads the embedded catalogue."""
        return cls(folder, server.catalogue_url, dict(server.href_rewrite))

    def add_region(self, name: str, bbox: Any, *, spatial_res: Any = 30, crs: str = LAEA, tile_size: Any = 16) -> None:
        region = {"identifier": name, "bbox": list(bbox), "crs": crs, "spatial_res": spatial_res}
        self.data["grid_mappings"].append(region | {"tile_size": tile_size})

    def add(self, identifier: str, data_id: str, *, region: str | None = "here", **options: Any) -> None:
        """A dataset; keyword arguments are keys of its entry."""
        grid = {"grid_mapping": region} if region else {}
        entry = {"identifier": identifier, "store": "archive", "data_id": data_id, **grid, **options}
        self.data["datasets"] = [one for one in self.data["datasets"] if one["identifier"] != identifier] + [entry]

    def function(self, name: str, text: str, module: str = "functions", **params: Any) -> dict[str, Any]:
        """Write the module, and return the section ``custom_processing`` that names its function."""
        (self.folder / f"{module}.py").write_text(text, encoding="utf-8")
        return {"module_path": f"{module}.py", "function_name": name, **params}

    @property
    def path(self) -> Path:
        return self.folder / "case.yml"

    def write(self) -> Path:
        self.path.write_text(yaml.safe_dump(self.data), encoding="utf-8")
        return self.path

    def case(self) -> Case:
        return load_case(self.write(), environ={})

    def native(self, identifier: str) -> NativeDataset:
        return describe_source(self.case().dataset(identifier))

    def plan(self, identifier: str) -> PlannedPartition:
        """Of the dataset's only partition."""
        case = self.case()
        dataset = case.dataset(identifier)
        (key,) = dataset.partition_keys
        return plan_partition(dataset, case.storage, describe_source(dataset), key)

    def make(self, identifier: str, dask: DaskSpec = ONE_THREAD) -> Any:
        """Make a cube, and open it: an xarray.Dataset in stored dtypes, in memory."""
        planned = self.plan(identifier)
        prepare_cube(planned.plan, planned.store)
        with open_compute(dask) as compute:
            materialize_partition(planned.plan, planned.partition, planned.store, compute, lambda _: None)
        return self.open(identifier)

    def open(self, identifier: str) -> Any:
        with open_cube(self.case(), identifier) as cube:
            return cube.load()

    def records(self, identifier: str) -> dict[str, TileRecord]:
        return self.plan(identifier).store.records()

    def run(self, *arguments: str) -> Ended:
        """``scs2-cubes run`` in this process."""
        return in_process("run", "--config", str(self.write()), *arguments, home=self.folder / "history")
