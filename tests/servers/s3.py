"""A real S3 server on loopback, in memory, whose faults tests arm."""

import subprocess
import sys
import urllib.request
from contextlib import suppress
from types import TracebackType
from typing import Self

from models.storage import S3Storage
from tests.servers.folders import server_folder
from tests.servers.guard import die_with_tests
from tests.servers.ports import free_port
from tests.servers.waiting import until


class S3Server:
    """One process; its buckets end with it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = server_folder("s3")
        self._process: subprocess.Popen[bytes] | None = None
        self._num_buckets = 0

    @property
    def environment(self) -> dict[str, str]:
        """What clients need to find it."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def __enter__(self) -> Self:
        with (self._folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.servers.s3_app", str(self.port)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_tests(),
            )  # fmt: skip
        until(self._answers, seconds=30, what="the S3 server to answer", every=0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def arm(self, fault: str) -> None:
        """See ``s3_app`` for the names."""
        self._put(f"/_fault/{fault}")

    def create_bucket(self) -> str:
        """Its name."""
        self._num_buckets += 1
        name = f"bucket-{self._num_buckets}"
        self._put(f"/{name}")
        return name

    def store(self, prefix: str = "some/prefix") -> S3Storage:
        return S3Storage(self.create_bucket(), prefix)

    def _put(self, path: str) -> None:
        with urllib.request.urlopen(
            urllib.request.Request(self.url + path, method="PUT"), timeout=5
        ) as answer:
            return answer.status

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "server.log").read_text()
        with suppress(OSError):
            urllib.request.urlopen(self.url, timeout=5).close()
            return True
        return False
