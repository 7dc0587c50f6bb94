"""What an API key is: whose, what it may do, and how its text is made and taken apart."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from models.identifiers import new_id
from models.job_spec import Name, Part

#: The tenant of whoever runs the installation, and of everybody where there is no other.
OPERATOR = "default"
TenantId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


def _visible(name: str) -> str:
    if not name.isprintable():  # what turns the direction of writing too: a list of keys must not mislead
        raise ValueError("only printable characters are allowed")
    return name


KeyName = Annotated[Name, AfterValidator(_visible)]

#: A prefix that scanners for leaked secrets can look for, the key's id, and its secret: 32 random bytes.
_TOKEN = re.compile(r"pdr_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")
_SECRET_BYTES = 32
#: Compared with where there is no key of that id; nothing is known that has this hash.
_NOBODYS = "0" * 64


class Scope(StrEnum):
    """What a key may do. Each scope includes those before it."""

    READ = "read"  #: look at everything of its tenant
    WRITE = "write"  #: submit jobs, steer and delete them
    ADMIN = "admin"  #: make and revoke the tenant's keys

    @property
    def included(self) -> tuple["Scope", ...]:
        """This one and those below it, in order."""
        order = tuple(Scope)
        return order[: order.index(self) + 1]


class NewKey(Part):
    """A key to be made."""

    name: KeyName = Field(description="For people: who uses it, and where.", examples=["ci"])
    scopes: Annotated[list[Annotated[Scope, Field(strict=False)]], Field(min_length=1, max_length=3)] = Field(
        default=[Scope.READ, Scope.WRITE],
        description="What it may do: `read`, `write`, `admin`; each includes those before it.",
    )

    @property
    def scope(self) -> Scope:
        """The highest of its scopes."""
        return highest(self.scopes)


def highest(scopes: Collection[Scope]) -> Scope:
    """The one that includes all the others."""
    return max(scopes, key=tuple(Scope).index)


@dataclass(frozen=True, repr=False)
class Token:
    """The text that a caller sends, in its parts; without a representation, so that no log shows it."""

    key_id: str
    secret: str

    @property
    def text(self) -> str:
        """As it is shown once and sent ever after."""
        return f"pdr_{self.key_id.removeprefix('key_')}_{self.secret}"

    @classmethod
    def make(cls) -> "Token":
        """A new one."""
        return cls(new_id("key"), secrets.token_urlsafe(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> "Token | None":
        """None for a text that is not of that form, which no stored key can be."""
        found = _TOKEN.fullmatch(text)
        return None if found is None else cls(f"key_{found[1]}", found[2])

    @property
    def sha256(self) -> str:
        """What is stored. The secret has 256 random bits, so that a slow hash would protect nothing more."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def is_that_of(self, stored_sha256: str | None) -> bool:
        """Whether it is the stored key's, found out in the same time whatever is wrong with it."""
        return hmac.compare_digest(self.sha256, stored_sha256 or _NOBODYS)
