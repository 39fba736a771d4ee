"""``scs2-cubes sources`` and ``config check --online``: what the sources have on offer."""

from __future__ import annotations

import pytest

from scs2_cubes.core.native import NativeDataset
from scs2_cubes.core.specification import DatasetSpec, StoreSpec
from scs2_cubes.errors import DataIdNotFoundError, NotPreloadedError, Scs2CubesError
from scs2_cubes.report import sources as report
from scs2_cubes_tests.end_to_end.trial import GAMI, GENUS, Ended, Trial, in_process


def sources(trial: Trial, *arguments: str) -> Ended:
    return in_process("sources", *arguments, "--config", str(trial.write()), home=trial.home)


def test_list_prints_the_ids_as_configurations_have_them(trial: Trial) -> None:
    result = sources(trial, "list", "eoforest_stac")
    assert result.code == 0, result.said
    lines = result.out.splitlines()
    assert {GAMI, GENUS} <= set(lines)
    assert len(lines) == len(set(lines))
    assert trial.chunk_requests() == []
    assert not trial.root.exists()
    # Each of them can be asked for.
    for number, line in enumerate(lines):
        trial.data["datasets"] = [trial.data["datasets"][0] | {"identifier": f"d{number}", "data_id": line}]
        assert trial.case().datasets[0].data_id == line


def test_search_wants_all_words_in_any_order_and_case(trial: Trial) -> None:
    everything = sources(trial, "list", "eoforest_stac").out.splitlines()
    result = sources(trial, "search", "eoforest_stac", "V3.1", "gami", "STRUCTURE")
    assert result.code == 0
    assert result.out.splitlines() == [GAMI]
    many = sources(trial, "search", "eoforest_stac", "STRUCTURE").out.splitlines()
    assert many == [line for line in everything if "structure" in line]
    assert 1 < len(many) < len(everything)


def test_nothing_found(trial: Trial) -> None:
    result = sources(trial, "search", "eoforest_stac", "gami", "nowhere")
    assert (result.code, result.out) == (1, "")
    assert result.err == "error: data store 'eoforest_stac' offers no data id that has gami and nowhere in it\n"


@pytest.mark.parametrize("command", [("list",), ("search", "gami")])
def test_unknown_store(trial: Trial, command: tuple[str, ...]) -> None:
    result = sources(trial, command[0], "eoforst_stac", *command[1:])
    assert result.code == 2
    assert "no data store 'eoforst_stac' to read from; did you mean 'eoforest_stac'?" in result.err
    assert sources(trial, command[0], "storage", *command[1:]).code == 2
    assert trial.server.requests.count() == 0


def test_search_without_words(trial: Trial) -> None:
    assert sources(trial, "search", "eoforest_stac").code == 2


def test_a_source_that_fails_is_told(trial: Trial) -> None:
    trial.data["data_stores"][1]["store_params"]["href_rewrite"] = {"https://s3.gfz-potsdam.de": "http://127.0.0.1:9"}
    result = sources(trial, "list", "eoforest_stac")
    assert result.code == 1
    assert "SourceUnavailableError" in result.err


# What is fetched first, in ``config check --online``.


class Offering:
    """A source that knows one data id."""

    def __init__(self, _: StoreSpec) -> None:
        self.asked: list[str] = []

    def probe(self, data_id: str) -> str:
        if data_id != "p|here":
            message = f"no {data_id}; nearest: p|here"
            raise DataIdNotFoundError(message, url="https://h/api")
        return "1"


@pytest.mark.parametrize(
    ("data_id", "raised", "code", "said"),
    [
        ("p|here.zarr", NotPreloadedError("not here yet"), 0, "1 preload: no problem found"),
        ("p|hree", None, 1, "p|hree of clms: DataIdNotFoundError: no p|hree; nearest: p|here [https://h/api]"),
        ("p|here", Scs2CubesError("broken"), 1, "datasets[0] (forest): Scs2CubesError: broken"),
    ],
)
def test_check_online_of_what_is_fetched_first(
    trial: Trial,
    data_id: str,
    raised: Exception | None,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def describe(dataset: DatasetSpec) -> NativeDataset:
        # An id that the source doesn't know is told once.
        assert raised is not None, dataset
        raise raised

    monkeypatch.setattr(report, "open_source", Offering)
    monkeypatch.setattr(report, "describe_source", describe)
    trial.data["data_stores"].append({"identifier": "clms", "store_id": "clms", "store_params": {"credentials": "k"}})
    trial.data["datasets"] = [
        {"identifier": "forest", "store": "clms", "data_id": data_id, "grid_mapping": "demo"},
    ]
    result = in_process("config", "check", "--online", str(trial.write()), home=trial.home)
    assert result.code == code
    assert said in result.out + result.err
    assert len((result.out + result.err).splitlines()) == 1
