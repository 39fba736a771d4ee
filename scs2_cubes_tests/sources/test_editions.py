"""Version numbers in data ids, compared as people compare them."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scs2_cubes.sources.clms_offers import EDITION
from scs2_cubes.sources.editions import VERSION_WORD, newer_data_ids, version_number
from scs2_cubes.sources.esa_cci import PRODUCT_VERSION

PLAIN = re.compile(r"_v(?P<number>[0-9]+(?:\.[0-9]+)*)")
NUMBERS = st.lists(st.integers(0, 30), min_size=1, max_size=4)


def written(numbers: list[int]) -> str:
    return f"forest_v{'.'.join(map(str, numbers))}"


def is_higher(one: list[int], other: list[int]) -> bool:
    """Number by number, what is missing counts as 0: written for this test alone."""
    for position in range(max(len(one), len(other))):
        left = one[position] if position < len(one) else 0
        right = other[position] if position < len(other) else 0
        if left != right:
            return left > right
    return False


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [("3.10", (3, 10)), ("v2.1.1", (2, 1, 1)), ("6-0", (6,)), ("0.0.1", (0, 0, 1)), ("3.0", (3,)), ("0.0", ())],
    )
    def test_examples(self, text: str, expected: tuple[int, ...]) -> None:
        assert version_number(text) == expected

    @given(NUMBERS, NUMBERS)
    def test_they_compare_number_by_number(self, one: list[int], other: list[int]) -> None:
        assert (newer_data_ids(written(one), [written(other)], PLAIN) != ()) == is_higher(other, one)

    @given(st.lists(NUMBERS), NUMBERS)
    def test_sorted_each_once_and_never_itself(self, offered: list[list[int]], own: list[int]) -> None:
        newer = newer_data_ids(written(own), map(written, offered), PLAIN)
        assert set(newer) == {written(one) for one in offered if is_higher(one, own)}
        assert len(set(newer)) == len(newer)
        numbers = [[int(part) for part in one.removeprefix("forest_v").split(".")] for one in newer]
        assert not any(is_higher(before, after) for before, after in itertools.pairwise(numbers))

    @given(NUMBERS, NUMBERS, st.text("ab_-/", min_size=1), st.text("ab_-/", min_size=1))
    def test_another_text_is_another_product(self, one: list[int], other: list[int], here: str, there: str) -> None:
        newer = newer_data_ids(here + written(one), [there + written(other)], PLAIN)
        assert (newer != ()) == (here == there and is_higher(other, one))

    def test_an_id_without_version_has_none(self) -> None:
        assert newer_data_ids("forest", ["forest_v2", "forest", "forests"], PLAIN) == ()
        assert newer_data_ids("forest_v2", ["forest", "forest_v2"], PLAIN) == ()


def item(collection: str, version: str) -> str:
    return f"theme/{collection}/{collection}_v{version}/{collection}_v{version}.json"


class TestItems:
    @pytest.mark.parametrize(
        ("own", "other", "is_newer"),
        [
            (item("GAMI", "3.1"), item("GAMI", "3.2"), True),
            (item("GAMI", "3.1"), item("GAMI", "3.0"), False),
            (item("GAMI", "3.9"), item("GAMI", "3.10"), True),
            (item("GAMI", "3.10"), item("GAMI", "3.9"), False),
            (item("EFDA", "2.1.1"), item("EFDA", "3"), True),
            (item("EFDA", "3"), item("EFDA", "3.0.0"), False),
            (item("GENUS", "0.0.1"), item("GENUS", "0.0.2"), True),
            (item("GENUS", "0.0.1"), item("GENUS", "0.1"), True),
            (item("GAMI", "3.1"), item("GAMI_EXTRA", "3.2"), False),
            (item("GAMI", "3.1"), item("GAMI", "3.2b"), False),
            ("forest-0.0.1.json", "forest-0.0.2.json", True),
            # Half a degree, a year, a tile: no versions.
            ("a/forest_0.5.json", "a/forest_1.0.json", False),
            ("a/forest_2015.json", "a/forest_2018.json", False),
            ("a/forest_2015.06.01.json", "a/forest_2018.06.01.json", False),
            ("a/h18v04.json", "a/h18v05.json", False),
        ],
    )
    def test_examples(self, own: str, other: str, is_newer: bool) -> None:
        assert newer_data_ids(own, [other], VERSION_WORD) == ((other,) if is_newer else ())


class TestFiles:
    @pytest.mark.parametrize(
        ("own", "other", "is_newer"),
        [
            ("FTY_2015_020m_eu_03035_d04_E30N20", "FTY_2015_020m_eu_03035_d05_E30N20", True),
            ("FTY_2015_020m_eu_03035_d04_E30N20", "FTY_2015_020m_eu_03035_d10_E30N20", True),
            ("FTY_2015_020m_eu_03035_d04_E30N20", "FTY_2015_020m_eu_03035_d03_E30N20", False),
            ("FTY_2015_020m_eu_03035_d04_E30N20", "FTY_2015_020m_eu_03035_d05_E30N30", False),
            ("FTY_2015_020m_eu_03035_d04_E30N20", "FTY_2018_020m_eu_03035_d05_E30N20", False),
            ("FTY_2015_100m_eu_03035_d02_Full", "FTY_2015_020m_eu_03035_d04_Full", False),
            ("TCD_2018_010m_eu_03035_v020", "TCD_2018_010m_eu_03035_v021", True),
            ("CLMS_CLCplus_RASTER_2021_V1_1", "CLMS_CLCplus_RASTER_2021_V1_2", True),
            ("TCD_S2021_R10m_E09N27_03035_V01_R00", "TCD_S2021_R10m_E09N27_03035_V01_R01", True),
            ("TCD_S2021_R10m_E09N27_03035_V01_R01", "TCD_S2021_R10m_E09N27_03035_V02_R00", True),
            ("TCD_S2021_R10m_E09N27_03035_V01_R00", "TCD_S2021_R20m_E09N27_03035_V01_R00", False),
            ("A_V1_10m", "A_V1_20m", False),
        ],
    )
    def test_examples(self, own: str, other: str, is_newer: bool) -> None:
        own, other = f"a-product|{own}", f"a-product|{other}"
        assert newer_data_ids(own, [other], EDITION) == ((other,) if is_newer else ())


class TestProductVersions:
    @pytest.mark.parametrize(
        ("own", "other", "is_newer"),
        [
            ("6-0.100m", "7-0.100m", True),
            ("6-0.100m", "6-1.100m", True),
            ("9-0.100m", "10-0.100m", True),
            ("6-0.100m", "5-01.100m", False),
            ("6-0.100m", "7-0.1000m", False),
            ("v7-2.r1", "v7-3.r1", True),
            ("04-01-seg.r1", "04-02-seg.r1", True),
            ("04-01-seg.r1", "04-02.r1", False),
            ("6-0.r1", "6-0.r2", False),
        ],
    )
    def test_examples(self, own: str, other: str, is_newer: bool) -> None:
        start = "esacci.BIOMASS.yr.L4.AGB.multi-sensor.multi-platform.MERGED"
        own, other = f"{start}.{own}", f"{start}.{other}"
        assert newer_data_ids(own, [other], PRODUCT_VERSION) == ((other,) if is_newer else ())

    def test_numbers_elsewhere_say_nothing(self) -> None:
        start, end = "esacci.OC.5-days.L3S.CHLOR_A.multi-sensor", "MERGED.6-0.geographic"
        own, other = f"{start}.sat-1.{end}", f"{start}.sat-2.{end}"
        assert newer_data_ids(own, [other], PRODUCT_VERSION) == ()
