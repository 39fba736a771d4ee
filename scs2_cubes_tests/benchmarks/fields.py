"""Spatially correlated random fields, the same for a pixel whichever block it is computed in.

A field is value noise: random numbers at nodes every ``scale`` pixels, smoothly interpolated between.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Block", "grain", "noise"]

Floats = npt.NDArray[np.float32]
#: (rows, columns) of a source lattice.
Block = tuple[slice, slice]


def noise(block: Block, scales: tuple[int, ...], seed: int) -> Floats:
    """Field of shape (rows, columns) with values in 0 … 1: the mean of one octave for each of ``scales`` (pixels).

    Octaves weigh as their scales' square roots, so that large shapes rule and small ones fray their edges.
    """
    weights = np.sqrt(np.array(scales, np.float32))
    octaves = [
        weight * _octave(block, scale, seed + 101 * number)
        for number, (scale, weight) in enumerate(zip(scales, weights, strict=True))
    ]
    total: Floats = np.sum(octaves, axis=0, dtype=np.float32) / weights.sum()
    return total


def grain(block: Block, seed: int) -> Floats:
    """White noise of shape (rows, columns), mean 0, standard deviation 1: what makes real quantities hard to compress.

    It depends on the block as well as on the pixel, so blocks must always be the same.
    """
    rows, cols = block
    random = np.random.default_rng([seed, rows.start, cols.start])
    return random.standard_normal((rows.stop - rows.start, cols.stop - cols.start), dtype=np.float32)


def _octave(block: Block, scale: int, seed: int) -> Floats:
    (row, down), (col, right) = (_places(part, scale) for part in block)
    nodes = _random_nodes(int(row[0]), int(row[-1] - row[0]) + 2, int(col[0]), int(col[-1] - col[0]) + 2, seed)
    row, col, down = row - row[0], col - col[0], down[:, np.newaxis]
    lines = nodes[row] + down * (nodes[row + 1] - nodes[row])
    first = lines[:, col]
    field: Floats = first + right * (lines[:, col + 1] - first)
    return field


def _places(part: slice, scale: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """(node before each pixel, weight of the next one)."""
    position = np.arange(part.start, part.stop)
    node = position // scale
    fraction = ((position - node * scale) / scale).astype(np.float32)
    return node, fraction * fraction * (3 - 2 * fraction)


def _random_nodes(first_row: int, rows: int, first_col: int, cols: int, seed: int) -> Floats:
    """Numbers in 0 … 1 that depend on row, column and seed alone: splitmix64's finaliser as a hash."""
    row = np.arange(first_row, first_row + rows, dtype=np.uint64)[:, np.newaxis]
    col = np.arange(first_col, first_col + cols, dtype=np.uint64)[np.newaxis, :]
    mixed = row * np.uint64(0x9E3779B97F4A7C15) + col * np.uint64(0xC2B2AE3D27D4EB4F) + np.uint64(seed * 2654435761)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
