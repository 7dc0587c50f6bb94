"""What is read from the API, of two installations in turns."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.figures import Distribution, distribution
from benchmarks.service_api import Api
from benchmarks.service_data import NUM_TEAMS


def job_id(number: int) -> str:
    """As ``service_data`` numbers them, from 1."""
    return f"job_{number:032x}"


#: Paths by what they read; ``some`` is the id of any job. A list is asked for in each of its ways.
READS: dict[str, list[Callable[[str, random.Random], str]]] = {
    "list": [
        lambda some, dice: "/jobs",
        lambda some, dice: f"/jobs?after={some}",
        lambda some, dice: "/jobs?status=failed",
        lambda some, dice: f"/jobs?status=queued&after={some}",
        lambda some, dice: f"/jobs?metadata[team]=team-{dice.randrange(NUM_TEAMS)}",
    ],
    "show": [lambda some, dice: f"/jobs/{some}"],
    "metrics": [lambda some, dice: f"/jobs/{some}/metrics?granularity=step&limit=100"],
}
#: Left out: connections are opened, statements are prepared.
WARM_UP = 8


@dataclass(frozen=True)
class Reads:
    """Of one kind, from both installations."""

    few: Distribution
    many: Distribution

    @property
    def p99_ratio(self) -> float:
        return self.many.percentile(99) / self.few.percentile(99)


def time_reads(
    small: tuple[Api, int], large: tuple[Api, int], *, rounds: int, deadline: float
) -> dict[str, Reads]:
    """Rounds in which each request goes to both; who is first changes from round to round."""
    dice = random.Random(0)
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in READS}
    for number in range(WARM_UP + rounds):
        if number > WARM_UP and time.monotonic() > deadline:
            break
        for name, paths in READS.items():
            for path in paths:
                for side in (0, 1) if number % 2 else (1, 0):
                    api, num_jobs = (small, large)[side]
                    taken = api.time_get(path(job_id(dice.randint(1, num_jobs)), dice))
                    if number >= WARM_UP:
                        seconds[name][side].append(taken)
    return {name: Reads(distribution(few), distribution(many)) for name, (few, many) in seconds.items()}
