"""Server-Sent Events, read back."""

import json
from typing import Any

Told = dict[str, Any]


def parsed(text: str) -> list[Told]:
    """Events with their fields; comments and `retry` left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "id" in fields:
            # A checkpoint's own id makes room for that of the event.
            found.append(json.loads(fields["data"]) | {"id": int(fields["id"]), "event": fields["event"]})
    return found
