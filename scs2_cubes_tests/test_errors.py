from __future__ import annotations

import pytest

from scs2_cubes.errors import redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://archive.example/a/b.zarr", "https://archive.example/a/b.zarr"),
        ("https://user:secret@archive.example/a", "https://archive.example/a"),
        ("https://archive.example/a?token=secret#secret", "https://archive.example/a?…"),
        # Views of Plone are addresses, not credentials.
        ("https://land.example/api/@search", "https://land.example/api/@search"),
        ("https://land.example:8080/@@oauth2-token", "https://land.example:8080/@@oauth2-token"),
        ("http://[::1]:80/clms/api/@datarequest_post", "http://[::1]:80/clms/api/@datarequest_post"),
        # Passwords with an unescaped slash.
        ("https://user:sec/ret@archive.example/a", "https://…"),
        ("https://user:sec/ret@archive.example/@search", "https://…"),
        ("https://user:secret/@archive.example/a", "https://…"),
        ("/data/a@b.zarr", "/data/a@b.zarr"),
        ("http://[bad", "…"),
    ],
)
def test_what_may_be_secret_is_left_out(url: str, shown: str) -> None:
    assert redact(url) == shown
