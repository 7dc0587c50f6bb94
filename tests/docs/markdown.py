"""What the pages for users say, read from the pages themselves: a changed page is a changed test."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Block:
    """Fenced code."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a console: a line each, unless a quote or a backslash goes on."""
        found = [""]
        for line in self.text.splitlines():
            found[-1] += line
            if _is_whole(found[-1]):
                found.append("")
            else:
                found[-1] += "\n"
        assert not found[-1], f"{self.page.name}:{self.line} ends within a command"
        return [command for command in found if shlex.split(command, comments=True)]


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])
        for found in _FENCED.finditer(text)
    ]


def prose(page: Path) -> str:
    """Without fenced code."""
    return _FENCED.sub("", page.read_text())


def inline_code(text: str) -> list[str]:
    return _CODE.findall(text)


def section(page: Path, heading: str) -> str:
    """From a heading to the next one of its rank or above."""
    rank = len(heading.split(maxsplit=1)[0])
    found = re.search(
        rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{rank}}} |\Z)", prose(page), re.MULTILINE | re.DOTALL
    )
    assert found, f"{page.name} has no {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of every table's body."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {number for number, line in enumerate(lines) if re.fullmatch(r"[|\- :]+", line)}
    body = [line for number, line in enumerate(lines) if number not in heads and number + 1 not in heads]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def _is_whole(command: str) -> bool:
    if command.endswith("\\"):
        return False
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True
