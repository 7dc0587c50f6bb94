"""Bring a database to the present schema: ``python -m models.migrate``, or ``perdure migrate``."""

import sys
from pathlib import Path
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from models.database import Database
from models.errors import DatabaseUnavailable, SettingsInvalid
from models.settings import load_settings


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
        upgrade(db)
    except DatabaseUnavailable as error:
        print(f"{error.message} ({error.__cause__})", file=sys.stderr)  # noqa: T201
        return 1
    print(f"The schema of {db.url} is current.")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
