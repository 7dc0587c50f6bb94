"""Which fault comes when: the seed alone decides."""

import random
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Strike:
    """A fault, and two numbers from which it takes whatever else it has to choose."""

    fault: str
    target: int
    share: float  #: from 0 to 1


class Schedule:
    """Each fault once, heavy ones rather early; from then on as often as it weighs."""

    def __init__(self, seed: int, weights: Mapping[str, int], every_seconds: float) -> None:
        self._random = random.Random(seed)
        self._weights = dict(weights)
        self._every_seconds = every_seconds
        # The order in which they would first come up if they were drawn by weight (Efraimidis and Spirakis).
        self._first = sorted(weights, key=lambda name: self._random.random() ** (1 / weights[name]))

    def next(self) -> Strike:
        if self._first:
            fault = self._first.pop()
        else:
            [fault] = self._random.choices(list(self._weights), list(self._weights.values()))
        return Strike(fault, self._random.randrange(1_000_000), self._random.random())

    def pause_seconds(self) -> float:
        """Until the next one: never in step with what repeats itself in the service."""
        return self._every_seconds * self._random.uniform(0.5, 1.5)
