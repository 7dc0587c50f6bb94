"""What is said of a list of measurements: percentiles, and a line that shows how they lie."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Distribution:
    """Measurements in seconds."""

    seconds: tuple[float, ...]

    def percentile(self, percent: float) -> float:
        """By nearest rank: a value that was measured. Below 100 of them the 99th is the largest."""
        ranked = sorted(self.seconds)
        return ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]

    @property
    def least(self) -> float:
        return min(self.seconds)

    @property
    def most(self) -> float:
        return max(self.seconds)

    def histogram(self, columns: int = 30) -> str:
        """One bar a column from the least to the most; the highest is full, any count is visible."""
        width = (self.most - self.least) / columns or 1.0
        counts = [0] * columns
        for value in self.seconds:
            counts[min(columns - 1, int((value - self.least) / width))] += 1
        return "".join(_BARS[math.ceil(count / max(counts) * (len(_BARS) - 1))] for count in counts)

    def to_json(self, prefix: str = "") -> dict[str, float]:
        return {
            f"{prefix}min_seconds": round(self.least, 4),
            f"{prefix}p50_seconds": round(self.percentile(50), 4),
            f"{prefix}p90_seconds": round(self.percentile(90), 4),
            f"{prefix}p99_seconds": round(self.percentile(99), 4),
            f"{prefix}max_seconds": round(self.most, 4),
        }


def distribution(values: Sequence[float]) -> Distribution:
    """Raises ValueError without a single measurement."""
    if not values:
        raise ValueError("nothing was measured")
    return Distribution(tuple(values))
