"""API keys from a terminal on the server: ``python -m models.keys``, or ``perdure keys``.

It works on the database itself, so that the first key needs no other.
"""

# ruff: noqa: T201 - what it prints is its answer

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from models import key_store
from models.database import Database
from models.errors import DatabaseUnavailable, NotFound, SettingsInvalid
from models.key_spec import OPERATOR, NewKey, Scope, TenantId
from models.key_store import KeyRow
from models.migrate import schema_state
from models.settings import load_settings

_PAGE = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 for no database or no such key, 2 for what has to be changed first."""
    wanted = _parser().parse_args(arguments)
    try:
        settings = load_settings()
    except SettingsInvalid as error:
        return _refuse(error.message, 2)
    db = Database(settings.database_url)
    try:
        if (state := schema_state(db)) != "current":
            return _refuse(f"The schema of {db.url} is {state}; run `perdure migrate` first.", 2)
        done: int = wanted.act(db, wanted)
    except ValidationError as error:
        return _refuse("; ".join(f"{_field(e)}: {e['msg']}" for e in error.errors(include_input=False)), 2)
    except DatabaseUnavailable as error:
        return _refuse(f"{error.message} ({error.reason})", 1)
    except NotFound as error:
        return _refuse(error.message, 1)
    finally:
        db.close()
    return done


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("perdure keys")
    verbs = parser.add_subparsers(required=True)
    create = verbs.add_parser("create")
    create.add_argument("name")
    create.add_argument("--scope", action="append", choices=list(map(str, Scope)))
    create.add_argument("--tenant", default=OPERATOR)
    create.set_defaults(act=_create)
    show = verbs.add_parser("list")
    show.add_argument("--tenant")
    show.set_defaults(act=_list)
    revoke = verbs.add_parser("revoke")
    revoke.add_argument("key_id")
    revoke.set_defaults(act=_revoke)
    exist = verbs.add_parser("exist")
    exist.set_defaults(act=lambda db, _: 0 if key_store.any_key(db) else 1)
    for verb in (create, show, revoke):
        verb.add_argument("--json", action="store_true")
    return parser


def _create(db: Database, wanted: argparse.Namespace) -> int:
    new = NewKey.model_validate({"name": wanted.name, **({"scopes": wanted.scope} if wanted.scope else {})})
    tenant_id = TypeAdapter(TenantId).validate_python(wanted.tenant)
    made = key_store.create_key(db, new, tenant_id)
    if wanted.json:
        print(json.dumps({**_as_json(made.key), "key": made.token.text}, ensure_ascii=False))
    else:
        print(f"{made.key.id} of tenant {tenant_id} may {_scopes(made.key)}. It is shown only now:\n")
        print(made.token.text)
    return 0


def _list(db: Database, wanted: argparse.Namespace) -> int:
    rows: list[KeyRow] = []
    while page := key_store.list_keys(
        db, tenant_id=wanted.tenant, after=rows[-1].id if rows else None, limit=_PAGE
    ):
        rows += page
    if wanted.json:
        print(json.dumps([_as_json(row) for row in rows], ensure_ascii=False))
    elif not rows:
        print("There is no key. `perdure keys create NAME` makes one.")
    for row in rows if not wanted.json else []:
        used = f"last used {_minute(row.last_used_at)}" if row.last_used_at else "never used"
        state = f"revoked {_minute(row.revoked_at)}" if row.revoked_at else used
        print(f"{row.id}  {row.tenant_id}  {_scopes(row)}  {state}  {row.name}")
    return 0


def _revoke(db: Database, wanted: argparse.Namespace) -> int:
    row = key_store.revoke_key(db, wanted.key_id)
    said = f"{row.id} opens nothing any more."
    print(json.dumps(_as_json(row), ensure_ascii=False) if wanted.json else said)
    return 0


def _as_json(row: KeyRow) -> dict[str, Any]:
    """As the API shows it."""
    instants = {name: _instant(getattr(row, name)) for name in ("created_at", "last_used_at", "revoked_at")}
    scopes = list(Scope(row.scope).included)
    return {"id": row.id, "name": row.name, "tenant_id": row.tenant_id, "scopes": scopes, **instants}


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat().replace("+00:00", "Z")


def _minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def _scopes(row: KeyRow) -> str:
    return ", ".join(Scope(row.scope).included)


def _field(error: Any) -> str:
    return ".".join(map(str, error["loc"])) or "tenant"


def _refuse(sentence: str, status: int) -> int:
    print(sentence, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
