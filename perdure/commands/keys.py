"""keys create, list, revoke: API keys, on the database of this machine's service.

Not over HTTP, where the first key could be made by nobody; ``client.keys`` does the same with an admin key.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from perdure import parts
from perdure.commands.options import AsJson

app = typer.Typer(
    help="API keys: make, list and revoke them, on the server's own database.", no_args_is_help=True
)

Home = Annotated[
    Path, typer.Option(envvar="PERDURE_HOME", help="The service's home.", show_default="~/.perdure")
]
DEFAULT_HOME = Path("~/.perdure")


class Scope(StrEnum):
    """Each includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="For people: who uses it, and where.", show_default=False)],
    scope: Annotated[
        Scope, typer.Option(help="read, write (and read), or admin (and both, and other keys).")
    ] = Scope.WRITE,
    tenant: Annotated[
        str, typer.Option(help="Whose: tenants see nothing of each other's jobs and keys.")
    ] = "default",
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it, this once; the service stores only its hash."""
    # Joined by `=`, so that a name that begins with a dash is a name.
    _become(home, "create", f"--scope={scope.value}", f"--tenant={tenant}", *_json(as_json), "--", name)


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only this one's.", show_default="all")] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show the keys, newest first: whose, what they may do, when they were last used."""
    _become(home, "list", *([] if tenant is None else [f"--tenant={tenant}"]), *_json(as_json))


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="The id that `list` shows: key_…")],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Let a key open nothing any more; running servers know within a few seconds."""
    _become(home, "revoke", *_json(as_json), "--", key_id)


def _json(as_json: bool) -> list[str]:
    return ["--json"] if as_json else []


def _become(home: Path, *arguments: str) -> None:
    parts.become("models.keys", *arguments, home=home.expanduser().absolute())
