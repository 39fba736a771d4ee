"""A real S3 server for tests: Ceph's RADOS gateway with its cluster, as processes of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.config  # type: ignore[import-untyped]  # ships no type information
import botocore.session  # type: ignore[import-untyped]  # ships no type information

from scs2_cubes.config.object_stores import s3_options
from scs2_cubes.core.native import RetryPolicy
from scs2_cubes.core.specification import StorageSpec

__all__ = ["GUEST", "OWNER", "Bucket", "Rgw", "why_not"]

_SCRIPT = Path(__file__).with_name("ceph_rgw_up.sh")
_PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "ceph", "curl")
_DAEMONS = ("client.rgw", "osd.0", "mon.a")
#: Who makes the buckets, and who may do there what a policy says; as the script has them.
OWNER = {"key": "demoaccess", "secret": "demosecret"}
GUEST = {"key": "guestaccess", "secret": "guestsecret"}
#: Gives up within a second where nobody listens.
QUICK = RetryPolicy(max_attempts=2, timeout=20)


def why_not() -> str:
    """Why no server can be started here; empty where one can."""
    if os.environ.get("CI"):
        return "no S3 server is started in CI"
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"no {', '.join(missing)}: apt-get install radosgw ceph-mon ceph-osd curl"
    return "" if os.geteuid() == 0 else "Ceph's programs write below /var as the superuser"


class Rgw:
    """The server, with everything that it stores below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port, self._monitor_port = _free_port(), _free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start what of it doesn't run, and wait until it answers."""
        with (self.folder.parent / "ceph.log").open("ab") as log:
            subprocess.run(
                ["bash", str(_SCRIPT), str(self.folder), str(self._port), str(self._monitor_port)],
                check=True,
                stdout=log,
                stderr=log,
                timeout=180,
            )

    def kill_gateway(self) -> None:
        """As ``kill -9`` does."""
        self._kill("client.rgw")

    def stop(self) -> None:
        for name in _DAEMONS:
            self._kill(name)

    def client(self) -> Any:
        """botocore's own client of the owner's."""
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=OWNER["key"],
            aws_secret_access_key=OWNER["secret"],
            config=botocore.config.Config(retries={"total_max_attempts": 5, "mode": "standard"}),
        )

    def bucket(self) -> Bucket:
        """A new one."""
        made = Bucket(self, f"scs2-{uuid.uuid4().hex}")
        made.client.create_bucket(Bucket=made.name)
        return made

    def _kill(self, name: str) -> None:
        pid_file = self.folder / "run" / f"{name}.pid"
        if not pid_file.exists():
            return
        number = int(pid_file.read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
        while _runs(number):
            time.sleep(0.01)
        pid_file.unlink()


@dataclass(frozen=True)
class Bucket:
    """A bucket of one test's."""

    server: Rgw
    name: str
    client: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "client", self.server.client())

    def options(self, **given: Any) -> Mapping[str, Any]:
        """s3fs's options: the owner's, or those with ``given`` instead."""
        login = given.pop("login", OWNER)
        retry = given.pop("retry", QUICK)
        return s3_options({**login, "endpoint_url": self.server.url, **given}, retry)

    def spec(self, prefix: str = "cubes", **given: Any) -> StorageSpec:
        """A folder in the bucket."""
        return StorageSpec(f"s3://{self.name}/{prefix}", self.options(**given))

    def keys(self, prefix: str = "") -> list[str]:
        """Keys that begin with ``prefix``, listed by botocore alone."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Key below the folder ``prefix`` → bytes, read by botocore alone."""
        folder = f"{prefix}/" if prefix else ""
        return {
            key.removeprefix(folder): self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
            for key in self.keys(folder)
        }

    def allow_guest(self, *actions: str) -> None:
        """What the guest may do here from now on, such as ``GetObject``."""
        self._set_policy({"AWS": ["arn:aws:iam:::user/guest"]}, actions)

    def allow_everybody(self, *actions: str) -> None:
        """What may be done here without a key."""
        self._set_policy("*", actions)

    def _set_policy(self, who: object, actions: tuple[str, ...]) -> None:
        statement = {
            "Effect": "Allow",
            "Principal": who,
            "Action": [f"s3:{action}" for action in actions],
            "Resource": [f"arn:aws:s3:::{self.name}", f"arn:aws:s3:::{self.name}/*"],
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.client.put_bucket_policy(Bucket=self.name, Policy=policy)


def _free_port() -> int:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        port: int = somebody.getsockname()[1]
        return port


def _runs(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    # Daemons are children of the first process, which may be slow to notice, or never.
    return state not in {"Z", "X"}
