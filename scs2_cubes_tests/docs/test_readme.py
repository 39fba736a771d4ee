"""The README: its links, its commands, and its example on the demonstration's cubes."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed.cli.dask_worker import main as dask_worker

from scs2_cubes.cli import commands
from scs2_cubes.config import load_case
from scs2_cubes.demo.server import DemoServer
from scs2_cubes.pipeline.compute import open_compute
from scs2_cubes.pipeline.cubes import describe_source, plan_partition
from scs2_cubes.pipeline.materialize import materialize_partition, prepare_cube
from scs2_cubes_tests.docs.markdown import CHECKOUT, blocks, code_spans, links

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
REFERENCE = (CHECKOUT / "configs/README.md").read_text(encoding="utf-8")
DEMO = CHECKOUT / "configs/demo.yml"
NAMES = ("gami", "forestpaths_genus")


@pytest.mark.parametrize("document", ["README.md", "configs/README.md", "scs2_cubes/README.md"])
def test_links_lead_somewhere(document: str) -> None:
    path = CHECKOUT / document
    for target in links(path.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("#"):
            assert (path.parent / target.partition("#")[0]).exists(), target


# The commands.


def _leaves(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        full = f"{before} {name}".strip()
        if isinstance(command, click.Group):
            yield from _leaves(command, full)
        else:
            yield full, command


LEAVES = dict(_leaves(commands))


@dataclass(frozen=True)
class Call:
    """A command line of ours as a document shows it."""

    arguments: tuple[str, ...]
    """What stands after ``scs2-cubes``."""
    comment: str
    """What stands behind it as a comment."""

    @property
    def command(self) -> str:
        """The subcommand's full name. Fails where there is none of that name."""
        for words in (2, 1):
            name = " ".join(self.arguments[:words])
            if name in LEAVES:
                return name
        raise AssertionError(f"scs2-cubes has no command {' '.join(self.arguments)}")

    @property
    def options(self) -> set[str]:
        """The long options, those in the comment too."""
        return {word.partition("=")[0] for word in self.arguments if word.startswith("--")} | set(
            re.findall(r"(?<!\S)--[a-z][a-z-]*", self.comment)
        )


def _calls(text: str) -> Iterator[Call]:
    lines = [line for block in blocks(text, "bash") for line in block.splitlines()]
    for line in (one for one in [*lines, *code_spans(text)] if "scs2-cubes" in one):
        code, _, comment = line.partition(" #")
        words = shlex.split(code, comments=True)
        starts = [number for number, word in enumerate(words) if word.rpartition("/")[2] == "scs2-cubes"]
        if starts and words[starts[0] + 1 :]:
            yield Call(tuple(words[starts[0] + 1 :]), comment)


CALLS = {"README.md": tuple(_calls(README)), "configs/README.md": tuple(_calls(REFERENCE))}


def _options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize(
    "call",
    [pytest.param(call, id=f"{name}-{number}") for name, calls in CALLS.items() for number, call in enumerate(calls)],
)
def test_commands_and_their_options_exist(call: Call) -> None:
    command = LEAVES[call.command]
    assert call.options <= _options(command)
    # An argument too many would be a misspelt one.
    plain = [word for word in call.arguments[len(call.command.split()) :] if not word.startswith("--")]
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    taken = len(plain) if any(argument.nargs == -1 for argument in arguments) else len(arguments)
    with_value = [p for p in command.params if isinstance(p, click.Option) and not p.is_flag]
    values = len(call.options & {name for parameter in with_value for name in parameter.opts})
    assert len(plain) <= taken + values


def test_every_call_is_looked_at() -> None:
    shown = {call.command for call in CALLS["README.md"]}
    assert {"demo", "run", "ui", "config check"} <= shown
    assert {"config check", "config show", "config schema"} <= {call.command for call in CALLS["configs/README.md"]}


@pytest.mark.parametrize("document", ["README.md", "configs/README.md"])
def test_options_in_the_text_exist(document: str) -> None:
    text = (CHECKOUT / document).read_text(encoding="utf-8")
    known = {name for command in LEAVES.values() for name in _options(command)}
    # The test runner's own.
    known |= set(re.findall(r"--[a-z]+", (CHECKOUT / "scs2_cubes_tests/run").read_text(encoding="utf-8")))
    # Those of workers that users start by themselves.
    known |= {name for parameter in dask_worker.params for name in parameter.opts}
    for span in code_spans(text):
        if span.startswith("--"):
            assert span.split()[0] in known


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_every_command_is_in_the_readme(name: str) -> None:
    assert name in {call.command for call in CALLS["README.md"]}


# The example.


@dataclass(frozen=True)
class Made:
    """The demonstration's cubes."""

    root: Path
    environ: dict[str, str]

    def stored(self, cube: str, variable: str) -> Any:
        """What lies on disk, (y, x), undecoded."""
        array = zarr.open_group(self.root / f"{cube}.zarr", mode="r")[variable]
        assert isinstance(array, zarr.Array)
        return np.asarray(array[...])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("demo") / "data"
    with DemoServer() as server:
        environ = {"SCS2_DEMO_URL": server.url, "SCS2_DEMO_ROOT": str(root)}
        case = load_case(DEMO, environ=environ)
        with open_compute(case.dask) as compute:
            for dataset in map(case.dataset, NAMES):
                planned = plan_partition(dataset, case.storage, describe_source(dataset), "demo")
                prepare_cube(planned.plan, planned.store)
                materialize_partition(planned.plan, planned.partition, planned.store, compute, lambda _: None)
    # In the region's folder, since demo.yml has a list of regions.
    return Made(root / "demo", environ)


def test_the_example_runs(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    (example,) = blocks(README, "python")
    assert example.count("configs/scs2.yml") == 2
    *statements, last = ast.parse(example.replace("configs/scs2.yml", str(DEMO))).body
    assert isinstance(last, ast.Expr)
    names: dict[str, Any] = {}
    exec(compile(ast.Module(statements, []), "README.md", "exec"), names)
    mean = eval(compile(ast.Expression(last.value), "README.md", "eval"), names)

    genus, age = made.stored("forestpaths_genus", "genus"), made.stored("gami", "forest_age")
    # As the comments say: classes as they are, and what stands where there is no value.
    assert names["genus"].dtype == genus.dtype == np.uint8
    assert names["age"].dtype == age.dtype == np.float32
    assert set(np.unique(genus)) <= {*range(8), 255}
    assert 255 in genus
    assert np.isnan(age).any()
    np.testing.assert_array_equal(names["genus"].values, genus)
    np.testing.assert_array_equal(names["age"].values, age)
    pine = age[(genus == 2) & ~np.isnan(age)].astype("float64")
    assert pine.size > 1000
    assert float(mean) == pytest.approx(pine.sum() / pine.size, rel=1e-4)


def test_plain_xarray_reads_a_cube_as_the_readme_says(made: Made) -> None:
    path = made.root / "forestpaths_genus.zarr"
    assert f'xarray.open_zarr("data/{path.name}")' in README
    decoded, stored = xr.open_zarr(path)["genus"], xr.open_zarr(path, mask_and_scale=False)["genus"]
    assert decoded.dtype == np.float32
    assert stored.dtype == np.uint8
    assert bool((np.isnan(decoded) == (stored == 255)).all())
    assert decoded.attrs["long_name"]


def test_places(made: Made) -> None:
    for name in NAMES:
        records = made.root / f"{name}.records"
        assert (made.root / f"{name}.zarr").is_dir()
        assert (records / "cube.json").is_file()
        assert len(list((records / "tiles").iterdir())) == 9
