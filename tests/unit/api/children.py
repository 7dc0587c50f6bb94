"""Processes that stand in for those with torch, and the checkpoints that they put together."""

import sys
from dataclasses import dataclass
from pathlib import Path

from api.materialising import Materialising
from tests.servers.waiting import until

#: Stands in for the process with torch: notes its pid, does as told, and joins the two files.
CHILD = """
import hashlib, json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
asked = json.load(sys.stdin)
(folder / f"{time.monotonic_ns()}.{os.getpid()}.started").touch()
while (folder / "wait").exists():
    time.sleep(0.005)
if (folder / "say").exists():
    print((folder / "say").read_text())
    sys.exit("Traceback: something secret in site-packages")
root = pathlib.Path(asked["storage_url"].removeprefix("file://"))
files = [asked[part] for part in ("frozen", "checkpoint") if asked[part]]
content = b"".join((root / file["path"]).read_bytes() for file in files)
if asked["kind"] != "checkpoint":
    content += json.dumps([asked["kind"], asked["job_id"], asked["checkpoint_id"]]).encode()
target = pathlib.Path(asked["destination"])
partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
partial.write_bytes(content)
partial.rename(target)
made = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
print(json.dumps(made | {"modified_ns": target.stat().st_mtime_ns}))
"""


@dataclass
class Children:
    """What the processes find and leave: they wait while ``wait`` is there, and repeat what ``say`` holds."""

    folder: Path

    def materialising(self, limit_seconds: float = 30.0) -> Materialising:
        return Materialising([sys.executable, "-c", CHILD, str(self.folder)], limit_seconds=limit_seconds)

    @property
    def pids(self) -> list[int]:
        return [int(path.name.split(".")[1]) for path in sorted(self.folder.glob("*.started"))]

    def await_starts(self, number: int) -> None:
        until(lambda: len(self.pids) == number, what=f"{number} processes to start")

    def hold(self) -> None:
        (self.folder / "wait").touch()

    def let_go(self) -> None:
        (self.folder / "wait").unlink()

    def say(self, answer: str) -> None:
        (self.folder / "say").write_text(answer)


@dataclass
class Split:
    """A job whose checkpoints are stored in two parts."""

    job_id: str
    ids: list[str]
    whole: dict[str, bytes]

    def url(self, number: int = 0) -> str:
        return f"/jobs/{self.job_id}/checkpoints/{self.ids[number]}/content"
