"""Workers whose trainers break, or dawdle, from the inside; ``saboteur/sitecustomize.py`` says how."""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python_path() -> str:
    """A PYTHONPATH under which the interpreters of a stack load the saboteur, and find its modules."""
    saboteur = Path(__file__).with_name("saboteur")
    return os.pathsep.join([str(saboteur), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


@dataclass(frozen=True)
class Pace:
    """A hold on the trainers of a stack, so that a job on any machine still runs when a fault begins.

    What they do is seen in the folder, too, where no database, broker or supervisor is in between.
    """

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Of the workers whose trainers it holds."""
        return {"PYTHONPATH": python_path(), "SABOTAGE_PACE": str(self.folder)}

    def dawdle(self, *, at_most: float = 1.0) -> None:
        """From the first snapshot of each trainer on its steps get slower, up to so many seconds more."""
        fresh = self.folder / "fresh"
        fresh.write_text(str(at_most))
        fresh.rename(self.folder / "dawdle")  # at no time there is an empty one

    def hurry(self) -> None:
        (self.folder / "dawdle").unlink()

    def num_steps(self, attempt: int | None = 1) -> int:
        """So many this attempt, or all together, have done so far, whoever was told of them."""
        try:
            journal = (self.folder / "steps").read_text()
        except FileNotFoundError:
            return 0
        lines = journal.splitlines()
        return len(lines) if attempt is None else lines.count(str(attempt))
