from __future__ import annotations

import pytest

from scs2_cubes.errors import redact, redact_text


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no address: a/b, 3:4 and //x", "no address: a/b, 3:4 and //x"),
        ("see https://a.example/b and\ns3://bucket/key", "see https://a.example/b and\ns3://bucket/key"),
        ("it lies at https://a.example/b?sig=secret for a day", "it lies at https://a.example/b?… for a day"),
        ('can\'t reach "https://u:secret@a.example/b"', 'can\'t reach "https://a.example/b"'),
        ("(https://u:se'cret@a.example)", "(https://a.example)"),
        ("HTTPS://a.example/?secret,https://u:secret@b.example/", "https://a.example/?…"),
        ("https://a.example/b,https://u:secret@b.example/", "https://…"),
    ],
)
def test_secrets_in_what_others_wrote(text: str, shown: str) -> None:
    assert redact_text(text) == shown
