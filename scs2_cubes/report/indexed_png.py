"""Pictures as small PNG files: up to 256 colours, nothing that depends on when or by what they were written."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import PIL.Image

__all__ = ["PICTURE_LIMIT", "bounded_png", "encode_png"]

#: Bytes of a picture: as base64 it must stay below 100 kB in an asset's metadata.
PICTURE_LIMIT = 70_000

_COLOURS = 256
Image = npt.NDArray[np.uint8]


def bounded_png(images: Iterable[Callable[[], tuple[Image, Image]]], limit: int = PICTURE_LIMIT) -> bytes:
    """The first of ``images`` whose PNG has at most ``limit`` bytes, or the last one, made smaller until it has.

    ``images``: each, when called, draws the picture in less detail than the one before it, and returns it, (rows,
    columns, 3), with the colours that must stay as they are, (colours, 3). Raises ValueError where there are none.
    """
    image = exact = None
    for draw in images:
        image, exact = draw()
        encoded = encode_png(image, exact)
        if len(encoded) <= limit:
            return encoded
    if image is None or exact is None:
        raise ValueError("no picture to encode: give at least one")
    while len(encoded) > limit and min(image.shape[:2]) > 1:
        image = image[::2, ::2]
        encoded = encode_png(image, exact)
    return encoded


def encode_png(image: Image, exact: Image) -> bytes:
    """``image`` (rows, columns, 3: red, green, blue) as PNG with a palette; the same bytes for the same input.

    ``exact`` (colours, 3) and then the most frequent colours are kept, up to 256; any other becomes its nearest.
    """
    palette, indices = _indexed(image, exact)
    # Of an array of bytes Pillow makes a picture with a palette once it's given one.
    picture = PIL.Image.fromarray(indices)
    picture.putpalette(palette.tobytes())
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", optimize=True)
    return encoded.getvalue()


def _indexed(image: Image, exact: Image) -> tuple[Image, Image]:
    """(palette (colours, 3), index of each pixel's colour (rows, columns))."""
    colours, inverse, counts = np.unique(_packed(image), return_inverse=True, return_counts=True)
    kept = np.intersect1d(_packed(exact), colours)[:_COLOURS]
    # Stable, so that equal counts are in the order of the colours.
    others = colours[np.argsort(-counts, kind="stable")]
    rest = others[~np.isin(others, kept)][: _COLOURS - kept.size]
    palette = _unpacked(np.concatenate([kept, rest]))
    place = np.array([_nearest(palette, colour) for colour in _unpacked(colours)], dtype=np.uint8)
    return palette, place[inverse].reshape(image.shape[:2])


def _nearest(palette: Image, colour: Image) -> int:
    distance = palette.astype(np.int64) - colour
    return int(np.argmin((distance**2).sum(axis=1)))


def _packed(image: Image) -> npt.NDArray[np.uint32]:
    """(…, 3) → (…), one number for each colour."""
    wide = image.astype(np.uint32)
    return np.asarray((wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2], dtype=np.uint32)


def _unpacked(colours: npt.NDArray[np.uint32]) -> Image:
    """(n,) → (n, 3)."""
    return np.stack([colours >> 16, (colours >> 8) & 255, colours & 255], axis=1).astype(np.uint8)
