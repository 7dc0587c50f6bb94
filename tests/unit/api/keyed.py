"""What tests of API keys share: a clock to move, and keys as headers."""

from dataclasses import dataclass

from models import key_store
from models.database import Database
from models.key_spec import NewKey, Scope
from models.key_store import Made

Headers = dict[str, str]


@dataclass
class Clock:
    """Monotonic seconds, moved by hand."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


def make(db: Database, scope: Scope | str = Scope.ADMIN, tenant: str = "default", name: str = "ci") -> Made:
    return key_store.create_key(db, NewKey(name=name, scopes=[Scope(scope)]), tenant)


def bearer(made: Made | str) -> Headers:
    text = made if isinstance(made, str) else made.token.text
    return {"Authorization": f"Bearer {text}"}
