"""How often the kernel ended processes like ours because memory ran out: SIGKILL does not say who sent it."""

from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


def oom_kills(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """So far, in this process's cgroup, else on the whole machine. None where nobody counts."""
    for counter in _counters(proc, cgroups):
        try:
            lines = counter.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None


def _counters(proc: Path, cgroups: Path) -> Iterator[Path]:
    """The most specific first."""
    try:
        memberships = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        memberships = []
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        if "memory" in controllers.split(","):
            root, name = cgroups / "memory", "memory.oom_control"
        elif not controllers:
            root, name = cgroups, "memory.events"
        else:
            continue
        yield root / path.lstrip("/") / name
        yield root / name  # in a container that sees its own cgroup as the root, by the host's path
    yield proc / "vmstat"
