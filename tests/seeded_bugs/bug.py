"""A bug: some lines of the code, and what stands there instead."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bug:
    name: str
    breaks: str  #: the invariant (docs/checkers.md), or the fault (docs/faults.md) that is no longer survived
    where: str  #: the package; code moves between its files more often than it changes
    old: str
    new: str
    checkers: tuple[str, ...]  #: that are asked, until one sees it
    is_quick: bool = False

    def plant(self, root: Path) -> Path:
        """The file that is broken now. Raises AssertionError where the code is not as the bug knows it."""
        homes = [path for path in sorted((root / self.where).rglob("*.py")) if self.old in path.read_text()]
        assert len(homes) == 1, f"{self.name}: in {len(homes)} files of {self.where} there is: {self.old}"
        text = homes[0].read_text()
        assert text.count(self.old) == 1, f"{self.name}: more than once in {homes[0]} there is: {self.old}"
        homes[0].write_text(text.replace(self.old, self.new))
        return homes[0]
