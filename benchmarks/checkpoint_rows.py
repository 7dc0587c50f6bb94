"""What was measured of saving one state by one method, from the lines that ``checkpoint_costs`` writes."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import distribution


@dataclass(frozen=True)
class Row:
    """All repetitions of one method on one state, in seconds; the first is the warm-up and stands apart."""

    case: str
    method: str
    stalls: tuple[float, ...]
    durables: tuple[float, ...]
    size_bytes: int

    @property
    def stall_seconds(self) -> float:
        return statistics.median(self.stalls[1:])

    def to_json(self) -> dict[str, Any]:
        stalls, durables = distribution(self.stalls[1:]), distribution(self.durables[1:])
        return {
            "case": self.case,
            "method": self.method,
            "stall_ms": milliseconds(self.stall_seconds),
            "stall_p90_ms": milliseconds(stalls.percentile(90)),
            "stall_first_ms": milliseconds(self.stalls[0]),
            "durable_ms": milliseconds(statistics.median(self.durables[1:])),
            "durable_p90_ms": milliseconds(durables.percentile(90)),
            "durable_first_ms": milliseconds(self.durables[0]),
            # Here durable_ms says when the method returns: the bytes lie in memory for the kernel to write.
            "is_durable": self.method != "torch_save",
            "bytes": self.size_bytes,
            "repetitions": len(self.stalls) - 1,
        }


def rows_of(case: str, lines: Sequence[str]) -> list[Row]:
    """From the lines that ``benchmarks.checkpoint_costs`` wrote, one row a method."""
    found = [json.loads(line) for line in lines]
    rows = []
    for method in dict.fromkeys(line["method"] for line in found):
        own = [line for line in found if line["method"] == method]
        rows.append(
            Row(
                case,
                method,
                tuple(line["stall_seconds"] for line in own),
                tuple(line["durable_seconds"] for line in own),
                own[-1]["size_bytes"],
            )
        )
    return rows


def stall_ratio(rows: Sequence[Row]) -> float:
    """Perdure's median stall to that of ``torch.save``, fsync and rename, where all of a network learns."""
    stalls = {row.method: row.stall_seconds for row in rows if row.case == "full"}
    return stalls["perdure"] / stalls["torch_save_fsync"]


def milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 2)
