"""Bring a database to the present schema: ``python -m models.migrate``, or ``perdure migrate``."""

import sqlite3
import sys
from pathlib import Path
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import exc, text

from models.database import Database
from models.errors import DatabaseUnavailable, SettingsInvalid
from models.settings import load_settings

LOOKED_AT_BYTES = 2_000_000_000

_DAMAGED = (
    "{url} is damaged ({found}), and nothing was changed. Keep a copy of the file; restore a backup, or save "
    "what can be read with `sqlite3 FILE .recover`."
)


def upgrade(db: Database) -> None:
    """To the newest revision; does nothing when it is there already. Raises DatabaseUnavailable."""
    config = _config()
    config.attributes["database"] = db
    command.upgrade(config, "head")


def schema_state(db: Database) -> Literal["current", "behind", "missing"]:
    """Whether this code can work with that database. Raises DatabaseUnavailable."""
    with db.reading() as tx:
        revision = MigrationContext.configure(tx).get_current_revision()
    if revision is None:
        return "missing"
    return "current" if revision == ScriptDirectory.from_config(_config()).get_current_head() else "behind"


def damage(db: Database) -> str | None:
    """What SQLite finds torn in its file. Raises DatabaseUnavailable.

    It reads all of it for that, seconds for each GB: nobody waits for a look at a file of several.
    """
    if not db.is_sqlite or _size_bytes(db) > LOOKED_AT_BYTES:
        return None
    try:
        with db.reading() as tx:
            found = str(tx.execute(text("PRAGMA quick_check(1)")).scalar_one())
    except exc.DatabaseError as error:
        return str(error.orig)
    except sqlite3.OperationalError as error:  # it is locked, or may not be read
        raise DatabaseUnavailable from error
    except sqlite3.DatabaseError as error:  # told as soon as it is opened
        return str(error)
    return None if found == "ok" else found


def _size_bytes(db: Database) -> int:
    path = Path(db.engine.url.database or "")
    return path.stat().st_size if path.is_file() else 0


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def main() -> int:
    """Exit status 0 when the schema is current, 2 for settings that must be changed first."""
    try:
        settings = load_settings()
    except SettingsInvalid as error:
        print(error.message, file=sys.stderr)  # noqa: T201
        return 2
    if settings.database_url.startswith("sqlite"):
        settings.home.mkdir(parents=True, exist_ok=True)
    db = Database(settings.database_url)
    try:
        # Once at each start: whoever writes into a torn file may tear it further.
        if (found := damage(db)) is not None:
            print(_DAMAGED.format(url=db.url, found=" ".join(found.split())), file=sys.stderr)  # noqa: T201
            return 1
        upgrade(db)
    except DatabaseUnavailable as error:
        print(f"{error.message} ({error.reason})", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        db.close()
    print(f"The schema of {db.url} is current.")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
