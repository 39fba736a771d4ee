"""Judges what was found of a partition: facts in, one verdict for each check out. Reads nothing, repairs nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from scs2_cubes.core.checks import CHECKS, TileFacts, Verdict
from scs2_cubes.core.comparison import compared, differing, lost_in_function, origin_of, unjudged_because
from scs2_cubes.core.evidence import CubeSight, Evidence, Found, LayerRule, described

__all__ = ["judge", "unjudged"]

#: Tiles that a text names before it only counts.
_NAMED = 5
_REMAKE = "`scs2-cubes check --forget`, then `scs2-cubes run`, makes them again"


def unjudged(check: str, reason: str) -> tuple[Verdict, ...]:
    """The verdicts where ``check`` failed for ``reason``, and nothing can be told of the others."""
    return tuple(
        Verdict(name, passed=False, text=reason, lasts=False)
        if name == check
        else Verdict(name, passed=False, text=f"can't be judged: {reason}", lasts=False, is_judged=False)
        for name in CHECKS
    )


def judge(evidence: Evidence, facts: Iterable[TileFacts]) -> tuple[Verdict, ...]:
    """One verdict for each of CHECKS, in that order. ``facts``: of the tiles that have a record."""
    found = Found(evidence, {one.tile: one for one in facts})
    return tuple(_JUDGES[name](found) for name in CHECKS)


def _passed(check: str, text: str) -> Verdict:
    return Verdict(check, passed=True, text=text)


def _failed(check: str, text: str, tiles: Iterable[str] = (), *, lasts: bool = True) -> Verdict:
    return Verdict(check, passed=False, text=text, tiles=tuple(sorted(set(tiles))), lasts=lasts)


def _listed(names: Iterable[str]) -> str:
    """At most five of ``names``, sorted, and how many more."""
    ordered = sorted(set(names))
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return f"{', '.join(ordered[:_NAMED])}{more}"


def _complete(found: Found) -> Verdict:
    """Whether that version is the present one is no matter of right or wrong: see the check ``current``."""
    evidence = found.evidence
    missing = [key for key in evidence.tiles if key not in evidence.records]
    versions: dict[str, list[str]] = {}
    for key in evidence.tiles:
        if key in evidence.records:
            versions.setdefault(found.record(key).data_version, []).append(key)
    most = max(versions, key=lambda version: (version == evidence.data_version, len(versions[version])), default="")
    others = {version: keys for version, keys in versions.items() if version != most}
    if not missing and not others:
        stale = f", and {evidence.data_version} is the present one" if most != evidence.data_version else ""
        return _passed("complete", f"{len(evidence.tiles)} tiles at version {most}{stale}")
    parts = [f"{len(missing)} of {len(evidence.tiles)} tiles aren't done: {_listed(missing)}"] if missing else []
    parts += [f"{len(keys)} tiles are at version {version}: {_listed(keys)}" for version, keys in others.items()]
    rest = f"; the others are at {most}" if others else ""
    tiles = [*missing, *(key for keys in others.values() for key in keys)]
    return _failed("complete", f"{'; '.join(parts)}{rest}. Run `scs2-cubes run`", tiles, lasts=False)


def _layout(found: Found) -> Verdict:
    sight = found.evidence.sight
    problems = (*sight.unfinished, *sight.layout)
    if not problems:
        return _passed("layout", "grid, CRS, coordinates, dtypes, fills and chunks as configured")
    text = f"{'; '.join(problems)}. Run `scs2-cubes run`; if it refuses, `scs2-cubes retire` first"
    return _failed("layout", text, lasts=bool(sight.layout))


def _time_axis(found: Found) -> Verdict:
    wanted, there = found.evidence.times, found.evidence.sight.times
    if wanted != there:
        missing, more = sorted(set(wanted) - set(there)), sorted(set(there) - set(wanted))
        parts = [f"without {_listed(missing)}"] if missing else []
        parts += [f"with {_listed(more)}"] if more else []
        what = " and ".join(parts) or "in another order"
        return _failed("time_axis", f"{len(there)} steps instead of {len(wanted)}, {what}. Run `scs2-cubes run`")
    empty = {layer.name: _empty_steps(found, layer.name) for layer in found.evidence.layers}
    lost = {
        name: steps
        for layer in found.evidence.layers
        if (steps := empty[name := layer.name]) and not _are_rightly_empty(found, layer, steps)
    }
    if lost:
        text = "; ".join(f"{name} has no value in {_listed(_stamps(found, steps))}" for name, steps in lost.items())
        return _failed("time_axis", f"{text}, though there are more in the source than in the cube. {_REMAKE}")
    return _passed("time_axis", _described_steps(found, empty))


def _described_steps(found: Found, empty: Mapping[str, Sequence[int]]) -> str:
    times = found.evidence.times
    if not times:
        return "the source has no time"
    span = f"{times[0]} to {times[-1]}" if len(times) > 1 else times[0]
    text = f"{len(times)} step{'s' if len(times) > 1 else ''}, {span}"
    rules = {layer.name: layer for layer in found.evidence.layers}
    notes = [
        f"{name} has no value in {_listed(_stamps(found, steps))}, and {_emptiness(found, rules[name], steps)}"
        for name, steps in empty.items()
        if steps
    ]
    notes += [f"the source has {_listed(newer)} as well by now"] if (newer := found.evidence.newer_times) else []
    return f"{text}; {'; '.join(notes)}" if notes else text


def _stamps(found: Found, steps: Iterable[int]) -> list[str]:
    return [found.evidence.times[step] for step in steps]


def _empty_steps(found: Found, layer: str) -> list[int]:
    """Steps of which no tile has a value, where other steps have."""
    counts = [0] * found.evidence.n_steps
    for one in found.tiles.values():
        for step in range(len(counts)):
            facts = one.planes.get((layer, step))
            counts[step] += facts.valid if facts else 0
    return [step for step, count in enumerate(counts) if count == 0] if any(counts) else []


def _emptiness(found: Found, layer: LayerRule, steps: Sequence[int]) -> str:
    if set(steps) <= {one.step for tile in found.tiles for one in compared(found, layer, tile)}:
        return f"none {origin_of(found, layer)} either"
    return "all that was recorded is there"


def _are_rightly_empty(found: Found, layer: LayerRule, steps: Sequence[int]) -> bool:
    """Whether the source has nothing in ``steps`` either, and all that was made of ``layer`` is there."""
    return all(
        _stored(found, layer, tile) == found.record(tile).valid.get(layer.name, 0)
        and not {one.step for one in differing(found, layer, tile)} & set(steps)
        for tile in found.tiles
        if found.is_read(tile)
    )


def _as_recorded(found: Found) -> Verdict:
    unreadable = {key: one.problem for key, one in found.tiles.items() if one.problem}
    changed: dict[str, str] = {}
    for layer, tile in found.layer_tiles():
        stored, recorded = _stored(found, layer, tile), found.record(tile).valid.get(layer.name, 0)
        if stored != recorded:
            changed.setdefault(tile, f"{layer.name} in {tile}: {stored} pixels instead of {recorded}")
    if not unreadable and not changed:
        pixels = sum(_stored(found, layer, tile) for layer, tile in found.layer_tiles())
        return _passed("as_recorded", f"{len(found.tiles)} tiles hold {pixels} values, as recorded")
    parts = [
        f"{len(texts)} tiles {what}: {_listed(texts)} ({next(iter(texts.values()))})"
        for what, texts in (("can't be read", unreadable), ("aren't as recorded", changed))
        if texts
    ]
    return _failed("as_recorded", f"{'; '.join(parts)}. {_REMAKE}", [*unreadable, *changed])


def _stored(found: Found, layer: LayerRule, tile: str) -> int:
    return sum(facts.valid for facts in found.planes(tile, layer.name))


def _legal_codes(found: Found) -> Verdict:
    wrong: dict[str, set[str]] = {}
    seen: dict[str, set[int]] = {}
    for layer, tile in found.layer_tiles():
        if not layer.is_categorical:
            continue
        planes = found.planes(tile, layer.name)
        codes = {code for facts in planes for code in facts.codes}
        seen.setdefault(layer.name, set()).update(codes)
        bad = {str(code) for code in codes if not _is_legal(layer, code)}
        if sum(sum(facts.codes.values()) for facts in planes) != _stored(found, layer, tile):
            bad.add("numbers that aren't whole")
        for code in bad:
            wrong.setdefault(f"{layer.name}: {code}", set()).add(tile)
    if wrong:
        tiles = {tile for keys in wrong.values() for tile in keys}
        text = f"no class is {_listed(wrong)}, in {len(tiles)} tiles: {_listed(tiles)}. {_REMAKE}; if they stay wrong, "
        return _failed("legal_codes", f"{text}mend the product's legend", tiles)
    rules = {layer.name: layer for layer in found.evidence.layers if layer.is_categorical}
    texts = [_described_codes(layer, sorted(seen.get(name, ()))) for name, layer in rules.items()]
    return _passed("legal_codes", "; ".join(texts) or "no class maps")


def _is_legal(layer: LayerRule, code: int) -> bool:
    if layer.codes:
        return code in layer.codes
    return layer.valid_range is None or layer.valid_range[0] <= code <= layer.valid_range[1]


def _described_codes(layer: LayerRule, codes: Sequence[int]) -> str:
    span = f"codes {codes[0]} … {codes[-1]}" if codes else "no codes"
    known = layer.codes or layer.valid_range is not None
    return f"{layer.name}: {span}" + ("" if known else ", of which nothing is known")


def _valid_share(found: Found) -> Verdict:
    wrong: dict[str, str] = {}
    for layer, tile in found.layer_tiles():
        for one in differing(found, layer, tile)[:1]:
            place = f"{layer.name} in {tile}{_at(found, one.step)}"
            stored, expected = one.stored / one.size, one.expected / one.size
            text = f"{place}: {stored:.4f} of the sampled pixels, {expected:.4f} {origin_of(found, layer)}"
            wrong.setdefault(tile, text)
    if wrong:
        what = f"{len(wrong)} tiles don't have values where they should: {_listed(wrong)}"
        return _failed("valid_share", f"{what} ({next(iter(wrong.values()))}). {_REMAKE}", wrong)
    return _passed("valid_share", "; ".join(_described_share(found, layer) for layer in found.evidence.layers))


def _at(found: Found, step: int) -> str:
    return f" at {found.evidence.times[step]}" if found.evidence.n_steps > 1 else ""


def _described_share(found: Found, layer: LayerRule) -> str:
    counts = [one for tile in found.tiles for one in compared(found, layer, tile)]
    if not counts:
        return f"{layer.name}: can't be judged, since {unjudged_because(found, layer)}"
    size = sum(one.size for one in counts)
    stored, expected = sum(one.stored for one in counts) / size, sum(one.expected for one in counts) / size
    words = f"at most as {origin_of(found, layer)}" if layer.at_most else f"as {origin_of(found, layer)}"
    return f"{layer.name}: {stored:.4f} of the sampled pixels, {words} ({expected:.4f})"


def _no_empty_tiles(found: Found) -> Verdict:
    wrong: dict[str, str] = {}
    for layer, tile in found.layer_tiles():
        if _stored(found, layer, tile) or layer.at_most:
            continue
        for one in differing(found, layer, tile)[:1]:
            where = f"{origin_of(found, layer)}{_at(found, one.step)} {one.expected} of {one.size} samples have a value"
            wrong.setdefault(tile, f"{layer.name} in {tile}, though {where}")
    if wrong:
        text = f"{len(wrong)} tiles are empty and shouldn't be: {_listed(wrong)} ({next(iter(wrong.values()))})"
        return _failed("no_empty_tiles", f"{text}. {_REMAKE}", wrong)
    return _passed("no_empty_tiles", "; ".join(_described_emptiness(found, layer) for layer in found.evidence.layers))


def _described_emptiness(found: Found, layer: LayerRule) -> str:
    if layer.at_most and layer.is_comparable:
        return f"{layer.name}: can't be judged, since values that are equal to the fill are lost rightly"
    judged = [tile for tile in found.tiles if compared(found, layer, tile)]
    if not judged:
        return f"{layer.name}: can't be judged, since {unjudged_because(found, layer)}"
    empty = [tile for tile in judged if not _stored(found, layer, tile)]
    text = f"{layer.name}: {len(empty)} of {len(judged)} tiles are empty"
    emptied = [tile for tile in empty if lost_in_function(found, layer, tile)]
    if emptied:
        # Leaving out what isn't wanted is what functions are for; but nobody should take it for the source's gap.
        return f"{text}, {len(emptied)} of them by the function, though the source has values there: {_listed(emptied)}"
    return f"{text}, as {origin_of(found, layer)}" if empty else text


def _valid_range(found: Found) -> Verdict:
    wrong: dict[str, list[str]] = {}
    extremes: dict[str, tuple[float, float]] = {}
    for layer, tile in found.layer_tiles():
        for facts in found.planes(tile, layer.name):
            if layer.valid_range is None or facts.minimum is None or facts.maximum is None:
                continue
            low, high = extremes.get(layer.name, (math.inf, -math.inf))
            extremes[layer.name] = (min(low, facts.minimum), max(high, facts.maximum))
            if not _within(layer, facts.minimum, facts.maximum):
                wrong.setdefault(layer.name, []).append(tile)
    limits = {layer.name: layer.valid_range for layer in found.evidence.layers if layer.valid_range is not None}
    texts = {
        name: f"{name}: {low:g} … {high:g}, of {limits[name][0]:g} … {limits[name][1]:g}"
        for name, (low, high) in extremes.items()
    }
    if wrong:
        parts = [f"{texts[name]}, in {_listed(tiles)}" for name, tiles in wrong.items()]
        text = f"{'; '.join(parts)}. Mend the source or the product's valid_range; tell its makers"
        return _failed("valid_range", text, [tile for tiles in wrong.values() for tile in tiles])
    return _passed("valid_range", "; ".join(texts.values()) or "nothing is known of what is valid")


def _within(layer: LayerRule, low: float, high: float) -> bool:
    if layer.valid_range is None:
        return True
    # The limits as the dtype has them: 0.1 is larger in float32 than it is.
    dtype = np.dtype(layer.dtype)
    first, last = (float(np.float32(limit)) if dtype == np.float32 else limit for limit in layer.valid_range)
    return first <= low and high <= last


def _description(found: Found) -> Verdict:
    sight = found.evidence.sight
    missing = [f"{name} of {layer.name}" for layer in found.evidence.layers for name in _missing_texts(layer, sight)]
    if "license" not in sight.attrs:
        missing.append("license")
    if not sight.attrs.keys() & {"references", "citation"}:
        missing.append("references or citation")
    others = [text for layer in found.evidence.layers for text in _other_texts(layer, sight)]
    if missing or others:
        parts = [f"the attributes lack {', '.join(missing)}"] if missing else []
        parts += [f"the attributes say otherwise: {'; '.join(others)}"] if others else []
        text = f"{'. And '.join(parts)}. Describe the product, or if it is described, retire the cube and run again"
        return _failed("description", text)
    return _passed(
        "description", f"{len(found.evidence.layers)} variables described; license: {sight.attrs['license']}"
    )


def _missing_texts(layer: LayerRule, sight: CubeSight) -> list[str]:
    attrs = sight.layers.get(layer.name, {})
    if layer.is_categorical:
        return [name for name in ("flag_values", "flag_meanings") if layer.codes and name not in attrs]
    return [name for name in ("units",) if name not in attrs]


def _other_texts(layer: LayerRule, sight: CubeSight) -> list[str]:
    """What is described otherwise than it was written, one phrase each."""
    there = sight.layers.get(layer.name, {})
    return [
        f"{name} of {layer.name} is {described(there[name])}, not {wanted}"
        for name, wanted in layer.attrs.items()
        if name in there and described(there[name]) != wanted
    ]


_JUDGES: Mapping[str, Callable[[Found], Verdict]] = MappingProxyType(
    {
        "complete": _complete,
        "layout": _layout,
        "time_axis": _time_axis,
        "as_recorded": _as_recorded,
        "legal_codes": _legal_codes,
        "valid_share": _valid_share,
        "no_empty_tiles": _no_empty_tiles,
        "valid_range": _valid_range,
        "description": _description,
    }
)
