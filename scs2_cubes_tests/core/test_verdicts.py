"""Verdicts on facts made up for them: what can't be judged, what may be lost rightly, and what may be off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from scs2_cubes.core.checks import CHECKS, PlaneFacts, TileFacts, Verdict
from scs2_cubes.core.cube import TileRecord
from scs2_cubes.core.evidence import CubeSight, Evidence, LayerRule
from scs2_cubes.core.verdicts import judge, unjudged

TIMES = ("2019-01-01T00:00:00", "2020-01-01T00:00:00")
RULE = LayerRule("height", is_categorical=False, dtype="float32", valid_range=(0.1, 60.0))
SIGHT = CubeSight((), TIMES, {"license": "CC0", "citation": "Somebody"}, {"height": {"units": "m"}})
NOTHING = PlaneFacts(0, None, None, 0.0, {}, 0)


def plane(valid: int, low: float = 1.0, high: float = 40.0) -> PlaneFacts:
    """A plane of 1000 pixels that are all in the sample."""
    return PlaneFacts(valid, low, high, 20.0 * valid, {}, valid) if valid else NOTHING


def judged(
    steps: tuple[PlaneFacts, PlaneFacts], source: tuple[int, int], rule: LayerRule = RULE, **record: object
) -> Mapping[str, Verdict]:
    """Verdicts on one tile; ``source``: samples with a value in the source, by step."""
    valid = {"height": sum(facts.valid for facts in steps)}
    made = TileRecord("y00x00", "v1", "s1", 1000, valid, 2, 0, 4, 0, {"height": list(source)}, 1000)
    evidence = Evidence(
        "v1",
        ("y00x00",),
        {"y00x00": replace(made, **record)},  # type: ignore[arg-type]  # fields by name
        (rule,),
        TIMES,
        2,
        SIGHT,
    )
    facts = TileFacts("y00x00", {("height", step): one for step, one in enumerate(steps)})
    return {verdict.check: verdict for verdict in judge(evidence, [facts])}


def failed(found: Mapping[str, Verdict]) -> set[str]:
    return {name for name, verdict in found.items() if not verdict.passed}


def test_an_empty_step_that_is_empty_in_the_source() -> None:
    found = judged((plane(600), NOTHING), (600, 0))
    assert failed(found) == set()
    assert "height has no value in 2020-01-01T00:00:00, and none in the source either" in found["time_axis"].text
    assert failed(judged((plane(600), NOTHING), (600, 600))) == {"time_axis", "valid_share"}
    assert failed(judged((plane(600), NOTHING), (600, 0), valid={"height": 1200})) == {"time_axis", "as_recorded"}


def test_an_empty_step_of_which_nobody_knows_the_source() -> None:
    """As in records of before time grew, or that are older than the check."""
    for source in ({"height": [600]}, {}):
        found = judged((plane(600), NOTHING), (0, 0), source_valid=source)
        assert failed(found) == set()
        assert found["time_axis"].text.endswith(
            "height has no value in 2020-01-01T00:00:00, and all that was recorded is there"
        )


@pytest.mark.parametrize(("off", "passes"), [(7, True), (8, False), (-7, True), (-8, False)])
@pytest.mark.parametrize("step", [0, 1])
def test_by_how_much_pointwise_methods_may_be_off(step: int, off: int, *, passes: bool) -> None:
    """Of the 1000 samples of each step half a percent, and two."""
    steps = [plane(500), plane(500)]
    steps[step] = plane(500 + off)
    found = judged((steps[0], steps[1]), (500, 500))
    assert found["valid_share"].passed is passes
    assert (
        passes
        or f"height in y00x00 at {TIMES[step]}: {(500 + off) / 1000:.4f} of the sampled pixels"
        in found["valid_share"].text
    )


@pytest.mark.parametrize("off", [50, -50])
def test_footprints_may_be_off_by_more(off: int) -> None:
    """Two percent and a deviation, 31.6 of 1000, in each step by itself."""
    rule = replace(RULE, is_exact=False)
    assert failed(judged((plane(500), plane(500 + off)), (500, 500), rule)) == set()
    assert failed(judged((plane(500), plane(500 + 9 * off // 5)), (500, 500), rule)) == {"valid_share"}


@pytest.mark.parametrize("is_exact", [True, False])
def test_what_one_step_has_lost_another_does_not_make_up_for(is_exact: bool) -> None:
    rule = replace(RULE, is_exact=is_exact)
    assert failed(judged((plane(600), plane(400)), (500, 500), rule)) == {"valid_share"}


@pytest.mark.parametrize("is_exact", [True, False])
def test_one_of_many_steps_is_lost(is_exact: bool) -> None:
    """Thirty-nine years, and a tile that has lost one of them."""
    times = tuple(f"{year}-01-01T00:00:00" for year in range(1985, 2024))
    planes = [plane(800)] * 38 + [NOTHING]
    valid, source = {"height": 38 * 800}, {"height": [800] * 39}
    record = TileRecord("y00x00", "v1", "s1", 1000, valid, 38, 1, 4, 0, source, 1000)
    rule, sight = replace(RULE, is_exact=is_exact), replace(SIGHT, times=times)
    evidence = Evidence("v1", ("y00x00",), {"y00x00": record}, (rule,), times, 39, sight)
    facts = TileFacts("y00x00", {("height", step): one for step, one in enumerate(planes)})
    found = {verdict.check: verdict for verdict in judge(evidence, [facts])}
    assert failed(found) == {"valid_share", "time_axis"}
    assert "2023-01-01" in found["valid_share"].text


def test_values_that_are_equal_to_the_fill_are_not_missed() -> None:
    rule = replace(RULE, at_most=True)
    found = judged((NOTHING, NOTHING), (750, 750), rule)
    assert failed(found) == set()
    assert "at most as in the source" in found["valid_share"].text
    # Nobody can tell whether the tile is rightly empty.
    assert found["no_empty_tiles"].text.startswith("height: can't be judged, since ")
    # But nothing is added.
    assert failed(judged((plane(900), plane(900)), (750, 750), rule)) == {"valid_share"}


class TestBehindAFunction:
    """A source with 1000 valid samples, and a function that returned fewer."""

    def judged(self, steps: tuple[PlaneFacts, PlaneFacts], returned: tuple[int, int]) -> Mapping[str, Verdict]:
        return judged(steps, (1000, 1000), function_valid={"height": list(returned)})

    def test_what_it_leaves_out_is_not_missed(self) -> None:
        found = self.judged((plane(300), plane(200)), (300, 200))
        assert failed(found) == set()
        assert found["valid_share"].text == (
            "height: 0.2500 of the sampled pixels, as in what the function returned (0.2500)"
        )
        assert found["no_empty_tiles"].text == "height: 0 of 1 tiles are empty"

    @pytest.mark.parametrize("off", [8, -8])
    def test_what_it_returned_is_compared_strictly(self, off: int) -> None:
        found = self.judged((plane(300), plane(200 + off)), (300, 200))
        assert failed(found) == {"valid_share"}
        assert "0.2000 in what the function returned" in found["valid_share"].text

    def test_a_tile_that_it_empties_is_told(self) -> None:
        found = self.judged((NOTHING, NOTHING), (0, 0))
        assert failed(found) == set()
        assert found["no_empty_tiles"].text == (
            "height: 1 of 1 tiles are empty, 1 of them by the function, though the source has values there: y00x00"
        )

    def test_a_tile_that_is_empty_in_the_source_as_well(self) -> None:
        found = judged((NOTHING, NOTHING), (0, 0), function_valid={"height": [0, 0]})
        assert found["no_empty_tiles"].text == ("height: 1 of 1 tiles are empty, as in what the function returned")

    def test_a_tile_that_is_lost_behind_it(self) -> None:
        found = self.judged((NOTHING, NOTHING), (300, 200))
        assert failed(found) == {"valid_share", "no_empty_tiles"}
        assert "in what the function returned at 2019-01-01T00:00:00 300 of 1000 samples" in (
            found["no_empty_tiles"].text
        )

    def test_a_variable_that_it_made(self) -> None:
        """The source has none of that name."""
        found = judged((NOTHING, NOTHING), (0, 0), source_valid={}, function_valid={"height": [300, 200]})
        assert failed(found) == {"valid_share", "no_empty_tiles"}
        found = judged((plane(300), plane(200)), (0, 0), source_valid={}, function_valid={"height": [300, 200]})
        assert failed(found) == set()


def test_methods_that_give_values_where_the_source_has_none() -> None:
    found = judged((plane(1000), plane(1000)), (300, 0), replace(RULE, is_comparable=False))
    assert failed(found) == set()
    why = "height: can't be judged, since this method gives values where the source has none"
    assert found["valid_share"].text == found["no_empty_tiles"].text == why


def test_an_empty_tile_where_the_source_has_a_few_pixels() -> None:
    found = judged((NOTHING, NOTHING), (7, 7))
    assert failed(found) == set()
    assert found["no_empty_tiles"].text == "height: 1 of 1 tiles are empty, as in the source"
    assert failed(judged((NOTHING, NOTHING), (0, 8))) == {"valid_share", "no_empty_tiles"}


def test_records_that_are_older_than_the_check() -> None:
    found = judged((NOTHING, NOTHING), (0, 0), source_valid={}, sampled=0)
    assert failed(found) == set()
    why = "height: can't be judged, since its records are older than this check"
    assert found["valid_share"].text == found["no_empty_tiles"].text == why


def test_only_tiles_that_are_judged_are_counted() -> None:
    """Of two empty tiles one has a record that knows its source."""
    new = TileRecord("y00x00", "v1", "s1", 1000, {"height": 0}, 0, 2, 4, 0, {"height": [0, 0]}, 1000)
    old = TileRecord("y00x01", "v1", "s1", 1000, {"height": 0}, 0, 2, 4, 0)
    records = {record.tile: record for record in (new, old)}
    evidence = Evidence("v1", tuple(records), records, (RULE,), TIMES, 2, SIGHT)
    facts = [TileFacts(tile, {("height", 0): NOTHING, ("height", 1): NOTHING}) for tile in records]
    found = {verdict.check: verdict for verdict in judge(evidence, facts)}
    assert found["no_empty_tiles"].text == "height: 1 of 1 tiles are empty, as in the source"


class TestComplete:
    def verdict(self, versions: Mapping[str, str], present: str = "v2") -> Verdict:
        """On three tiles, of which some have a record."""
        records = {
            tile: TileRecord(tile, version, "s1", 1000, {"height": 0}, 0, 2, 4, 0) for tile, version in versions.items()
        }
        evidence = Evidence(present, ("a", "b", "c"), records, (RULE,), TIMES, 2, SIGHT)
        return judge(evidence, [])[0]

    def test_all_at_the_present_version(self) -> None:
        found = self.verdict({"a": "v2", "b": "v2", "c": "v2"})
        assert (found.passed, found.text) == (True, "3 tiles at version v2")

    def test_all_at_an_older_one(self) -> None:
        """That a cube is stale doesn't make it a wrong one."""
        found = self.verdict({"a": "v1", "b": "v1", "c": "v1"})
        assert (found.passed, found.text) == (True, "3 tiles at version v1, and v2 is the present one")

    def test_two_versions(self) -> None:
        found = self.verdict({"a": "v2", "b": "v1", "c": "v1"})
        assert (found.passed, found.tiles, found.lasts) == (False, ("b", "c"), False)
        assert "2 tiles are at version v1: b, c; the others are at v2" in found.text

    def test_two_old_versions(self) -> None:
        found = self.verdict({"a": "v0", "b": "v1", "c": "v1"})
        assert (found.passed, found.tiles) == (False, ("a",))

    def test_missing_tiles(self) -> None:
        assert self.verdict({"a": "v1", "c": "v1"}).tiles == ("b",)
        assert self.verdict({}).tiles == ("a", "b", "c")


def test_what_a_run_mends_does_not_last() -> None:
    record = TileRecord("y00x00", "v1", "s1", 1000, {"height": 0}, 0, 2, 4, 0)
    for sight, lasts in (
        (replace(SIGHT, unfinished=("older",)), False),
        (replace(SIGHT, layout=("CRS",)), True),
        (replace(SIGHT, layout=("CRS",), unfinished=("older",)), True),
    ):
        evidence = Evidence("v1", ("y00x00",), {"y00x00": record}, (RULE,), TIMES, 2, sight)
        (layout,) = [verdict for verdict in judge(evidence, []) if verdict.check == "layout"]
        assert (layout.passed, layout.lasts) == (False, lasts)


def test_limits_are_those_of_the_dtype() -> None:
    """0.1 in float32 is a little more, and 60 is itself."""
    lowest = 0.10000000149011612
    assert failed(judged((plane(5, lowest, 60.0), plane(5)), (5, 5))) == set()
    assert failed(judged((plane(5, 0.0999, 60.0), plane(5)), (5, 5))) == {"valid_range"}
    assert failed(judged((plane(5, 1.0, math.inf), plane(5)), (5, 5))) == {"valid_range"}


def test_codes_that_are_not_whole() -> None:
    rule = replace(RULE, is_categorical=True, valid_range=None)
    found = judged((replace(plane(5), codes={1: 4}), NOTHING), (5, 0), rule)
    assert "numbers that aren't whole" in found["legal_codes"].text


def test_unjudged() -> None:
    found = unjudged("layout", "there is no cube")
    assert [verdict.check for verdict in found] == list(CHECKS)
    assert {verdict.text for verdict in found} == {"there is no cube", "can't be judged: there is no cube"}
    assert not any(verdict.passed or verdict.lasts for verdict in found)
    assert [verdict.check for verdict in found if verdict.is_judged] == ["layout"]
