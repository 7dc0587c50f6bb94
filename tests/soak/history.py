"""What happened, as JSON lines: one for each submission, fault and observation, in their order."""

import json
import threading
import time
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


class History:
    """Appends; each line is on its way to the disk before the next thing happens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began_at = time.monotonic()
        self._lock = threading.Lock()
        self._file = path.open("a", buffering=1)

    def add(self, kind: str, **data: Any) -> None:
        """``kind`` says what the rest of the line is about."""
        entry = {"at": round(time.monotonic() - self._began_at, 3), "unix": time.time(), "kind": kind, **data}
        with self._lock:
            self._file.write(json.dumps(entry, default=str) + "\n")

    def close(self) -> None:
        self._file.close()


def read_history(path: Path) -> list[Entry]:
    """Every line; a last one that was cut short is left out."""
    entries = []
    for line in path.read_text().splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return entries
