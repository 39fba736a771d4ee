"""Chunks and tiles that a dataset asks for, against the tiles of its grid."""

from __future__ import annotations

from scs2_cubes.config.grids import GridChoice
from scs2_cubes.config.models import ChunkSize, Cube
from scs2_cubes.config.problems import KeyPath, Problems

__all__ = ["chunk_shape", "report_tile_size"]


def chunk_shape(
    chunksize: ChunkSize | None, grid: GridChoice | None, path: KeyPath, problems: Problems
) -> tuple[int, int] | None:
    """(rows, columns) of a chunk; None: one chunk per tile. A direction that isn't given is that of the tile.

    A tile is the unit of writing: two that share a chunk would lose each other's pixels. So a chunk that doesn't
    divide the tile of every region goes to ``problems``; without a ``grid`` nothing is checked.
    """
    if chunksize is None:
        return None
    if chunksize.time not in {None, 1}:
        shown = problems.shown((*path, "time"))
        problems.add((*path, "time"), f"chunks of several time steps aren't supported; say 1, not {shown}")
    rows_key, rows = _either(("y", chunksize.y), ("lat", chunksize.lat), path, problems)
    cols_key, cols = _either(("x", chunksize.x), ("lon", chunksize.lon), path, problems)
    if grid is None or (rows is None and cols is None):
        return None
    # Backwards, so that of regions with the same tile the first one is named.
    tiles = {(region.grid.tile_ny, region.grid.tile_nx): region.name for region in reversed(grid.regions)}
    for (tile_rows, tile_cols), region in tiles.items():
        _report_remainder(rows, tile_rows, f"rows in region {region!r}", (*path, rows_key), problems)
        _report_remainder(cols, tile_cols, f"columns in region {region!r}", (*path, cols_key), problems)
    if rows is None or cols is None:
        if len(tiles) != 1:
            text = f"should also say {rows_key if rows is None else cols_key}, since there isn't one tile_size to take"
            problems.add(path, text)
            return None
        ((tile_rows, tile_cols),) = tiles
        rows, cols = rows or tile_rows, cols or tile_cols
    return rows, cols


def report_tile_size(cube: Cube, grid: GridChoice | None, path: KeyPath, problems: Problems) -> None:
    """Report a ``tile_size`` for the resampling that isn't that of the dataset's grid."""
    size = cube.spatial_resample_params.tile_size if cube.spatial_resample_params else None
    if size is None or grid is None:
        return
    wanted = size if isinstance(size, tuple) else (size, size)
    for region in grid.regions:
        own = (region.grid.tile_nx, region.grid.tile_ny)
        if wanted != own:
            text = f"{problems.shown(path)} isn't the tile_size {list(own)} (x, y) of region {region.name!r}"
            problems.add(path, f"{text}; the tile belongs to the grid: say it in grid_mappings, and leave it out here")
            return
    if not grid.regions:
        problems.add(path, "the tile belongs to the grid, and there is no grid_mapping; leave it out")


def _either(
    one: tuple[str, int | None], other: tuple[str, int | None], path: KeyPath, problems: Problems
) -> tuple[str, int | None]:
    """Key and value of the one of two keys for the same direction that is given."""
    if one[1] is not None and other[1] is not None:
        problems.add((*path, other[0]), f"can't stand together with {one[0]!r}; leave one of the two out")
    return other if one[1] is None and other[1] is not None else one


def _report_remainder(chunk: int | None, tile: int, what: str, path: KeyPath, problems: Problems) -> None:
    if chunk is not None and tile % chunk:
        text = f"{chunk} doesn't divide the tile of {tile} {what}: a tile is the unit of writing"
        problems.add(path, f"{text}, so it has to be a multiple of the chunk")
