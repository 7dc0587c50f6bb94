"""``.env.example`` has every setting with its default, and nothing else."""

import re

import pytest

from models.settings import Settings
from tests.docs.markdown import ROOT

FOR_CLIENTS = {"PERDURE_URL", "PERDURE_API_KEY"}
FOR_COMPOSE = {"PERDURE_DATA", "POSTGRES_PASSWORD"}

#: Variables in the order of the file, each with the comment above it.
ENTRIES = {
    name: (value, comment)
    for comment, name, value in re.findall(
        r"((?:^# .*\n)*)^#?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE
    )
}


def variable(field: str) -> str:
    return f"PERDURE_{field.upper()}"


def test_it_has_every_setting_and_nothing_else() -> None:
    assert ENTRIES.keys() == {variable(f) for f in Settings.model_fields} | FOR_CLIENTS | FOR_COMPOSE


def test_nothing_is_set_by_copying_it() -> None:
    assert not re.findall(r"^[^#\n]", (ROOT / ".env.example").read_text(), re.MULTILINE)


@pytest.mark.parametrize("field", Settings.model_fields)
def test_its_values_are_the_defaults(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENTRIES:
        monkeypatch.delenv(name, raising=False)
    default = getattr(Settings(), field)
    value, comment = ENTRIES[variable(field)]
    monkeypatch.setenv(variable(field), value)
    shown = getattr(Settings(), field)  # an example, too, must be a value that is taken
    if "unless set" not in comment:
        assert shown == default


def test_clients_default_to_the_address_of_the_service() -> None:
    assert ENTRIES["PERDURE_URL"][0] == f"http://{ENTRIES['PERDURE_HOST'][0]}:{ENTRIES['PERDURE_PORT'][0]}"
