"""Where the kernel counts what it killed for want of memory, on machines and in containers of any age."""

from pathlib import Path

import pytest

from worker.oom_kills import oom_kills

V1, V2 = "7:cpu:/\n4:memory:/jobs/a\n0::/\n", "0::/jobs/a\n"
COUNT_V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
COUNT_V2 = "low 0\noom 5\noom_kill 3\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("membership", "counter", "text", "expected"),
    [
        (V2, "cgroups/jobs/a/memory.events", COUNT_V2, 3),
        (V2, "cgroups/memory.events", COUNT_V2, 3),
        (V1, "cgroups/memory/jobs/a/memory.oom_control", COUNT_V1, 3),
        (V1, "cgroups/memory/memory.oom_control", COUNT_V1, 3),
        ("0::/\n", "proc/vmstat", "nr_free_pages 7\noom_kill 3\n", 3),
        (None, "proc/vmstat", "oom_kill 3\n", 3),
        (V2, "cgroups/jobs/a/memory.events", "low 0\n", None),
        (None, "elsewhere", "", None),
    ],
)
def test_the_nearest_counter_is_read(
    membership: str | None, counter: str, text: str, expected: int | None, tmp_path: Path
) -> None:
    files = {counter: text} | ({} if membership is None else {"proc/self/cgroup": membership})
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert oom_kills(tmp_path / "proc", tmp_path / "cgroups") == expected
