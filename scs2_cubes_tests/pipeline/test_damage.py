"""Every check fails on a cube that was damaged for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyproj import CRS

from scs2_cubes.core.checks import CHECKS
from scs2_cubes.core.specification import StorageSpec
from scs2_cubes.pipeline.inspection import look_of
from scs2_cubes_tests.pipeline.finished import (
    KNOWN,
    change_document,
    change_record,
    chunk,
    drop,
    failed,
    inspected,
    pixels,
    verdicts,
    with_times,
)
from scs2_cubes_tests.pipeline.worlds import (
    GENUS,
    World,
    genus_world,
)


class TestDamage:
    def test_a_missing_record(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        (Path(world.storage.root) / "forest.records/tiles/y02x03.json").unlink()
        found = verdicts(world)
        assert failed(world) == {"complete"}
        assert found["complete"].tiles == ("y02x03",)
        assert "1 of 25 tiles aren't done: y02x03" in found["complete"].text

    def test_mixed_versions(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        for tile in ("y00x00", "y04x04"):
            change_record(world, tile, data_version="0ld")
        found = verdicts(world)
        assert failed(world) == {"complete"}
        assert "2 tiles are at version 0ld: y00x00, y04x04" in found["complete"].text

    def test_another_version_of_the_source(self, copied: Callable[[str], World]) -> None:
        """All tiles at one version that isn't the present one: the cube is stale, and not wrong."""
        world = copied("genus")
        plan = replace(world.plan, components={**world.plan.components, "source_version": "next"})
        assert plan.data_version != world.plan.data_version
        found = verdicts(replace(world, plan=plan))
        assert all(verdict.passed for verdict in found.values())
        assert f"{plan.data_version} is the present one" in found["complete"].text

    def test_many_tiles_are_counted(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        shutil.rmtree(Path(world.storage.root) / "forest.records/tiles")
        text = verdicts(world)["complete"].text
        assert "25 of 25 tiles aren't done: y00x00, y00x01, y00x02, y00x03, y00x04 and 20 more" in text

    def test_a_deleted_chunk(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        chunk(world, "genus/2.2").unlink()
        found = verdicts(world)
        assert failed(world) == {"as_recorded", "valid_share", "no_empty_tiles"}
        assert {found[name].tiles for name in failed(world)} == {("y02x02",)}
        assert "genus in y02x02: 0 pixels instead of" in found["as_recorded"].text

    def test_an_emptied_chunk_of_one_step(self, copied: Callable[[str], World]) -> None:
        world = copied("age")
        pixels(world, "forest_age")[1, 0:32, 0:32] = np.nan
        found = verdicts(world)
        assert failed(world) == {"as_recorded", "valid_share"}
        assert "forest_age in y00x00 at 2020-01-01T00:00:00: 0.0000 of the sampled pixels" in found["valid_share"].text
        assert found["as_recorded"].tiles == ("y00x00",)

    def test_an_emptied_chunk_with_a_record_that_says_so(self, copied: Callable[[str], World]) -> None:
        """As a run would leave it that lost pixels: only the source tells."""
        world = copied("genus")
        chunk(world, "genus/2.2").unlink()
        change_record(world, "y02x02", valid={"genus": 0}, chunks_written=0, chunks_empty=1)
        assert failed(world) == {"valid_share", "no_empty_tiles"}

    @pytest.mark.parametrize("name", ["genus", "age"])
    def test_a_garbled_chunk(self, copied: Callable[[str], World], name: str) -> None:
        world = copied(name)
        path = chunk(world, "genus/1.2" if name == "genus" else "forest_age/1.1.2")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        found = verdicts(world)
        assert failed(world) == {"as_recorded"}
        assert found["as_recorded"].tiles == ("y01x02",)
        assert str(path) in found["as_recorded"].text

    def test_a_wrong_code(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        array = pixels(world, "genus")
        row, col = np.argwhere(array[...] == 3)[50]
        array[row, col] = 77
        found = verdicts(world)
        assert failed(world) == {"legal_codes", "valid_range"}
        assert "genus: 77" in found["legal_codes"].text
        assert found["legal_codes"].tiles == (f"y{row // 32:02d}x{col // 32:02d}",)

    def test_a_wrong_code_where_there_is_no_legend(self, tmp_path: Path) -> None:
        product = replace(GENUS, variables=(replace(GENUS.variables[0], valid_range=(0, 6)),), **KNOWN)
        world = genus_world(tmp_path, product=product)
        world.make()
        assert "legal_codes" in failed(world)

    def test_a_value_out_of_range(self, copied: Callable[[str], World]) -> None:
        world = copied("age")
        array = pixels(world, "forest_age")
        row, col = np.argwhere(np.isfinite(array[0]))[0]
        array[0, row, col] = 3000
        found = verdicts(world)
        assert failed(world) == {"valid_range"}
        assert "3000" in found["valid_range"].text
        assert not found["valid_range"].blocks

    def test_a_lost_mask(self, copied: Callable[[str], World]) -> None:
        """Values where the source has none, in a record that believes them."""
        world = copied("age")
        array = pixels(world, "forest_age")
        values = array[:, 0:32, 0:32]
        assert np.isnan(values).any()
        array[:, 0:32, 0:32] = np.where(np.isnan(values), 100, values)
        change_record(world, "y00x00", valid={"forest_age": 2 * 32 * 32})
        found = verdicts(world)
        assert failed(world) == {"valid_share"}
        assert found["valid_share"].tiles == ("y00x00",)

    def test_a_lost_mask_of_footprints(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        array = pixels(world, "genus")
        values = np.asarray(array[32:64, 32:64])
        assert 0.05 < (values == 255).mean() < 0.9
        array[32:64, 32:64] = np.where(values == 255, 1, values)
        change_record(world, "y01x01", valid={"genus": 32 * 32})
        found = verdicts(world)
        assert failed(world) == {"valid_share"}
        assert found["valid_share"].tiles == ("y01x01",)

    def test_an_emptied_step(self, copied: Callable[[str], World]) -> None:
        world = copied("age")
        pixels(world, "forest_age")[0] = np.nan
        found = verdicts(world)
        assert failed(world) == {"time_axis", "as_recorded", "valid_share"}
        assert "forest_age has no value in 2010-01-01T00:00:00" in found["time_axis"].text

    def test_a_shifted_coordinate(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        x = pixels(world, "x")
        x[:] = np.asarray(x[:]) + 15.0
        found = verdicts(world)
        assert failed(world) == set(CHECKS)
        assert "x: other coordinates" in found["layout"].text
        assert found["complete"].text.startswith("can't be judged: ")

    @pytest.mark.parametrize("everywhere", [True, False])
    def test_changed_chunks(self, copied: Callable[[str], World], *, everywhere: bool) -> None:
        world = copied("genus")
        if everywhere:
            change_document(world, "genus/.zarray", lambda array: array.update(chunks=[16, 16]))
        else:
            # What readers of consolidated metadata don't see, and others do.
            path = Path(world.store.url) / "genus/.zarray"
            path.write_text(json.dumps({**json.loads(path.read_text()), "chunks": [16, 16]}))
        assert "layout" in failed(world)

    def test_another_crs(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        wkt = CRS.from_epsg(32630).to_wkt()
        change_document(world, "spatial_ref/.zattrs", lambda attrs: attrs.update(crs_wkt=wkt, spatial_ref=wkt))
        found = verdicts(world)["layout"]
        assert not found.passed
        assert "32630" in found.text

    def test_dropped_attributes(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        change_document(world, "genus/.zattrs", lambda attrs: drop(attrs, "flag_meanings"))
        change_document(world, ".zattrs", lambda attrs: drop(attrs, "license", "citation"))
        found = verdicts(world)
        assert failed(world) == {"description"}
        assert "flag_meanings of genus, license, references or citation" in found["description"].text

    def test_dropped_units(self, copied: Callable[[str], World]) -> None:
        world = copied("age")
        change_document(world, "forest_age/.zattrs", lambda attrs: drop(attrs, "units"))
        assert "units of forest_age" in verdicts(world)["description"].text

    def test_attributes_that_say_otherwise(self, copied: Callable[[str], World]) -> None:
        world = copied("age")
        change_document(world, "forest_age/.zattrs", lambda attrs: attrs.update(units="months"))
        assert failed(world) == {"description"}
        assert "units of forest_age is months, not years" in verdicts(world)["description"].text

    def test_legend_that_says_otherwise(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        change_document(world, "genus/.zattrs", lambda attrs: attrs.update(flag_values=attrs["flag_values"][:-1]))
        assert failed(world) == {"description"}
        assert "flag_values of genus is [0, 1" in verdicts(world)["description"].text

    def test_times_that_are_others(self, copied: Callable[[str], World], made: dict[str, World]) -> None:
        """The first step is another one than in the plan, by the coordinate's units."""
        world = copied("age")
        change_document(world, "time/.zattrs", lambda attrs: attrs.update(units="seconds since 1971-01-01"))
        found = verdicts(world)
        assert not found["time_axis"].passed
        assert "without 2010-01-01T00:00:00" in found["time_axis"].text

    def test_a_source_that_has_grown_since(self, copied: Callable[[str], World]) -> None:
        """A cube that lacks only new steps is judged by its own."""
        world = copied("age")
        grown = with_times(world, *world.plan.schema.times, "2030-01-01T00:00:00")
        found = inspected(grown, look_of(grown.plan, grown.partition))
        texts = {verdict.check: verdict.text for verdict in found.verdicts}
        assert [verdict for verdict in found.verdicts if not verdict.passed] == []
        assert "the source has 2030-01-01T00:00:00 as well by now" in texts["time_axis"]
        np.testing.assert_array_equal(found.means["forest_age"], inspected(world).means["forest_age"])
        # What is wrong in its own steps is found.
        pixels(world, "forest_age")[1, 0:32, 0:32] = np.nan
        assert failed(grown) == {"as_recorded", "valid_share"}

    def test_a_growth_that_a_crash_cut_short(self, copied: Callable[[str], World]) -> None:
        """Documents of arrays are new, the consolidated metadata are not yet: the next run goes on."""
        world = copied("age")
        grown = with_times(world, *world.plan.schema.times, "2030-01-01T00:00:00")
        path = Path(world.store.url) / "forest_age/.zarray"
        before = json.loads(path.read_text())
        path.write_text(json.dumps({**before, "shape": [3, *before["shape"][1:]]}))
        found = verdicts(grown)
        assert failed(grown) == {"layout"}
        assert not found["layout"].lasts

    def test_no_cube_at_all(self, made: dict[str, World], tmp_path: Path) -> None:
        world = replace(made["genus"], storage=StorageSpec(str(tmp_path)))
        found = verdicts(world)
        assert failed(world) == set(CHECKS)
        assert found["layout"].text.startswith("there is no cube at")
        assert "can't be judged: there is no cube" in found["valid_share"].text
        assert list(tmp_path.iterdir()) == []

    def test_another_cube(self, copied: Callable[[str], World], made: dict[str, World]) -> None:
        world = replace(copied("age"), plan=made["genus"].plan)
        found = inspected(world, look_of(world.plan, world.partition))
        assert not any(verdict.passed for verdict in found.verdicts)
        assert found.views["genus", 0].tolist() == np.full((130, 135), 255).tolist()

    @pytest.mark.parametrize("name", [".zmetadata", "genus/.zarray"])
    def test_metadata_that_are_none(self, copied: Callable[[str], World], name: str) -> None:
        world = copied("genus")
        chunk(world, name).write_bytes(b"{half")
        assert failed(world) == set(CHECKS)

    def test_a_record_that_is_none(self, copied: Callable[[str], World]) -> None:
        world = copied("genus")
        path = Path(world.storage.root) / "forest.records/tiles/y00x00.json"
        path.write_bytes(b"{half")
        assert str(path) in verdicts(world)["complete"].text
