"""The descriptions of known products."""

# Messages are quoted whole, whatever their length.
# ruff: noqa: E501

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from scs2_cubes.config.products import load_products, parse_product, product_for
from scs2_cubes.core.variables import Kind, Product
from scs2_cubes.errors import ConfigurationError

GAMI = "structure-demography/GAMI/GAMI_v3.1/GAMI_v3.1.json"
GENUS = "structure-demography/FORESTPATHS_GENUS/FORESTPATHS_GENUS_v0.0.1/FORESTPATHS_GENUS_v0.0.1.json"
LIU = "biomass-carbon/LIU_BIOMASS/LIU_BIOMASS_v0.1/LIU_BIOMASS_v0.1.json"
EFDA = "disturbance-change/EFDA/EFDA_v2.1.1/EFDA_v2.1.1.json"
FTY = "forest-type-2015|FTY_2015_020m_eu_03035_d04_E30N20"
CCI = "esacci.BIOMASS.yr.L4.AGB.multi-sensor.multi-platform.MERGED.6-0.100m"
RECORDED = Path(os.environ.get("SCS2_RECORDED") or Path(__file__).parents[3] / "shared" / "data" / "recorded")

PRODUCT = """
title: A product
code_version: 1
data_ids: ["*/a.json"]
licence: see references
variables:
  - name: code
    kind: categorical
    dtype: uint8
    fill: 255
    long_name: Codes
    legend:
      - {code: 0, name: none, label: None, colour: "#000000"}
      - {code: 1, name: some, label: Some, colour: "#ffffff"}
"""


def _of(data_id: str) -> Product:
    product = product_for(data_id, load_products())
    assert product is not None
    return product


def test_gami() -> None:
    product = _of(GAMI)
    (age,) = product.variables
    assert (age.name, age.kind, age.ensemble_dim, age.time) == ("forest_age", Kind.ENSEMBLE, "members", "last")
    assert (age.dtype, age.nodata, age.units, age.valid_range) == ("float32", -9999, "years", (1, 300))
    assert math.isnan(age.fill)
    assert "https://doi.org/10.5880/GFZ.1.4.2023.006" in product.references


def test_genus() -> None:
    product = _of(GENUS)
    (genus,) = product.variables
    assert (genus.name, genus.kind, genus.dtype, genus.fill, genus.nodata) == (
        "genus",
        Kind.CATEGORICAL,
        "uint8",
        255,
        255,
    )
    assert [(entry.code, entry.label.split()[0].lower()) for entry in genus.legend] == [
        (0, "larix"), (1, "picea"), (2, "pinus"), (3, "fagus"), (4, "quercus"), (5, "other"), (6, "other"), (7, "no")
    ]  # fmt: skip
    assert len({entry.colour for entry in genus.legend}) == len({entry.name for entry in genus.legend}) == 8
    assert "https://doi.org/10.5281/zenodo.13341104" in product.references


def test_liu() -> None:
    product = _of(LIU)
    assert [(variable.name, variable.units) for variable in product.variables] == [
        ("aboveground_biomass", "kg"), ("canopy_cover", "percent"), ("canopy_height", "m")
    ]  # fmt: skip
    for variable in product.variables:
        assert (variable.kind, variable.dtype, variable.nodata) == (Kind.CONTINUOUS, "float32", 0)
        assert math.isnan(variable.fill)
    assert "900 m2" in product.variables[0].long_name
    assert product.non_commercial
    assert "Planet" in product.licence


def test_efda() -> None:
    product = _of(EFDA)
    (agent,) = product.variables
    assert (agent.name, agent.kind, agent.dtype, agent.aliases) == (
        "disturbance_agent",
        Kind.CATEGORICAL,
        "uint8",
        ("efda_agent",),
    )
    assert (agent.fill, agent.nodata, agent.time) == (255, -9999, "all")
    assert [(entry.code, entry.name) for entry in agent.legend] == [
        (0, "undisturbed"), (1, "wind_or_bark_beetle"), (2, "fire"), (3, "harvest")
    ]  # fmt: skip
    assert len({entry.colour for entry in agent.legend}) == 4
    assert not product.non_commercial


@pytest.mark.parametrize("suffix", ["", ".zarr"])
def test_forest_type(suffix: str) -> None:
    product = _of(FTY + suffix)
    (forest,) = product.variables
    # As the file: the archive's own name of the variable.
    assert forest.name == "FTY_2015_020m_eu_03035_d04_E30N20"
    assert (forest.kind, forest.dtype, forest.fill, forest.nodata) == (Kind.CATEGORICAL, "uint8", 255, 255)
    assert {entry.code: entry.name for entry in forest.legend} == {
        0: "non_forest",
        1: "broadleaved",
        2: "coniferous",
        254: "unclassifiable",
    }
    rgb = [(0xF0, 0xF0, 0xF0), (70, 158, 74), (28, 92, 36), (153, 153, 153)]
    assert [tuple(bytes.fromhex(entry.colour[1:])) for entry in forest.legend] == rgb
    assert not product.non_commercial
    assert product.references


def test_products_of_two_files_have_their_own_names() -> None:
    other = _of("forest-type-2015|FTY_2015_020m_eu_03035_d04_E20N20")
    assert [variable.name for variable in other.variables] == ["FTY_2015_020m_eu_03035_d04_E20N20"]
    assert [variable.name for variable in _of(FTY).variables] != [variable.name for variable in other.variables]


def test_cci_biomass() -> None:
    product = _of(CCI)
    agb, spread = product.variables
    assert (agb.name, agb.kind, agb.aliases) == ("agb", Kind.CONTINUOUS, ())
    assert (spread.name, spread.kind, spread.aliases) == ("agb_sd", Kind.STANDARD_DEVIATION, ())
    for variable in product.variables:
        assert (variable.dtype, variable.units, variable.nodata, variable.time) == (
            "float32",
            "Mg ha-1",
            -32768,
            "all",
        )
        assert math.isnan(variable.fill)
    assert product.references


@pytest.mark.parametrize(
    ("data_id", "identifier"),
    [
        (FTY, "forest_type"),
        (f"{FTY}.zarr", "forest_type"),
        # Of another resolution, with other codes; another year; another layer; no file.
        ("forest-type-2015|FTY_2015_100m_eu_03035_d02_Full", None),
        ("forest-type-2018|FTY_2018_010m_eu_03035_v010", None),
        ("forest-type-2015|DLT_2015_020m_eu_03035_d04_E30N20", None),
        ("forest-type-2015", None),
        (CCI, "esa_cci_biomass"),
        (f"{CCI}~2015", "esa_cci_biomass"),
        (CCI.replace("6-0", "5-0"), None),
        (CCI.replace("AGB", "CHANGE"), None),
        (GAMI, "gami"),
        ("structure-demography/GAMI/GAMI_v3.0/GAMI_v3.0.json", "gami"),
        ("GAMI/GAMI_v3.1/GAMI_v3.1.json", "gami"),
        ("GAMI_v3.1", "gami"),
        (GENUS, "forestpaths_genus"),
        ("FORESTPATHS_GENUS_v0.0.1", "forestpaths_genus"),
        (LIU, "liu"),
        ("LIU_BIOMASS/LIU_BIOMASS_v0.1/LIU_BIOMASS_v0.1.json", "liu"),
        ("LIU_BIOMASS_v0.1", "liu"),
        (EFDA, "efda"),
        ("disturbance-change/EFDA/EFDA_v2.0.0/EFDA_v2.0.0.json", "efda"),
        ("EFDA_v2.1.1", "efda"),
        ("disturbance-change/EFDA_OTHER/EFDA_OTHER_v1/EFDA_OTHER_v1.json", None),
        ("structure-demography/GAMI/GAMI_v2.1/GAMI_v2.1.json", None),
        ("structure-demography/OTHER/OTHER_v3.1/OTHER_v3.1.json", None),
        ("gami_v3.1", None),
        ("", None),
    ],
)
def test_which_product(data_id: str, identifier: str | None) -> None:
    product = product_for(data_id, load_products())
    assert (product.identifier if product else None) == identifier


def test_licence_and_citation_as_recorded() -> None:
    collection = RECORDED / "eoforest/collections/public/structure-demography/GAMI/collection.json"
    if not collection.is_file():
        pytest.skip("the recorded catalogue isn't here; SCS2_RECORDED says where it is")
    recorded = json.loads(collection.read_text(encoding="utf-8"))
    product = _of(GAMI)
    assert product.licence == recorded["license"]
    assert {link["href"] for link in recorded["links"] if link["rel"] == "cite-as"} <= set(product.references)


def test_a_product_that_holds_together() -> None:
    assert parse_product("a", PRODUCT).identifier == "a"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("title:", "titel:", "titel: unknown key; did you mean 'title'?"),
        ("kind: categorical", "kind: category", "variables[0].kind: 'category' isn't one of the values that are possible here; did you mean 'categorical'?"),
        ("fill: 255", "fill: 256", "variables[0]: fill 256 can't be stored as uint8"),
        ("fill: 255", "fill: .nan", "variables[0]: fill nan can't be stored as uint8"),
        ("fill: 255", "fill: 1", "variables[0]: fill and nodata can't be a class of the legend"),
        ("kind: categorical", "kind: continuous", "variables[0]: a categorical variable has a legend, and no other one has"),
        ("code: 1,", "code: 0,", "variables[0]: the legend's codes should be in ascending order, each once"),
        ("code: 1,", "code: 300,", "variables[0]: a code of the legend can't be stored as uint8"),
        ("kind: categorical", "kind: categorical\n    ensemble_dim: m", "variables[0]: a variable of kind ensemble has an ensemble_dim, and no other one has"),
        ("kind: categorical", "kind: categorical\n    valid_range: [2, 1]", "variables[0]: valid_range should be the smallest value, then the largest"),
        ("long_name: Codes", "long_name: Codes\n    zero: valu", "variables[0].zero: 'valu' isn't one of the values that are possible here; did you mean 'value'?"),
        ('"#000000"', '"black"', "variables[0].legend[0].colour: "),
        ("name: code", 'name: "{fiel}"', "variables[0].name: "),
        ("name: code", 'name: "a{file}"', "variables[0].name: "),
    ],
)  # fmt: skip
def test_refused(old: str, new: str, line: str) -> None:
    assert old in PRODUCT
    with pytest.raises(ConfigurationError) as refused:
        parse_product("a", PRODUCT.replace(old, new, 1))
    first, *lines = str(refused.value).split("\n")
    assert first.startswith("scs2_cubes/products/a.yml can't be used (")
    assert any(found.startswith(f"  {line}") for found in lines)


COVER = """
title: Cover
code_version: 1
data_ids: ["cover"]
licence: see references
variables:
  - {name: cover, kind: continuous, dtype: float32, fill: .nan, long_name: Cover, zero: value}
  - {name: height, kind: continuous, dtype: float32, fill: .nan, long_name: Height, zero: nodata}
  - {name: biomass, kind: continuous, dtype: float32, fill: .nan, long_name: Biomass}
"""


def test_zero_as_value() -> None:
    variables = parse_product("cover", COVER).variables
    assert [(variable.name, variable.zero_is_value) for variable in variables] == [
        ("cover", True),
        ("height", False),
        ("biomass", False),
    ]
    assert [variable.nodata for variable in variables] == [None, None, None]


@pytest.mark.parametrize("contradiction", ["zero: value, nodata: 0", "zero: value, nodata: -0.0"])
def test_zero_is_a_value_or_it_isnt(contradiction: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_product("cover", COVER.replace("zero: value", contradiction))
    assert str(refused.value).split("\n")[1:] == [
        "  variables[0]: where zero is a value, neither fill nor nodata can be 0"
    ]
    assert parse_product("cover", COVER.replace("zero: nodata", "zero: nodata, nodata: 0")).variables[1].nodata == 0


def test_fill_hides_no_zero() -> None:
    with pytest.raises(ConfigurationError, match="neither fill nor nodata can be 0"):
        parse_product("cover", COVER.replace("fill: .nan", "fill: 0", 1))
