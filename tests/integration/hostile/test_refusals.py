"""Every hostile input that is known, through one oracle."""

import pytest

from tests.integration.hostile.case import Case
from tests.integration.hostile.cases import (
    addresses,
    authentication,
    bodies,
    models,
    names,
    numbers,
    parameters,
    requests,
    strings,
    uploads,
    webhooks,
)
from tests.integration.hostile.oracle import Oracle

SECTIONS = {
    "names": names.CASES,
    "numbers": numbers.CASES,
    "bodies": bodies.CASES,
    "strings": strings.CASES,
    "models": models.CASES,
    "webhooks": webhooks.CASES,
    "uploads": uploads.CASES,
    "authentication": authentication.CASES,
    "parameters": parameters.CASES,
    "addresses": addresses.CASES,
    "requests": requests.CASES,
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=f"{name}: {case.name}") for name, cases in SECTIONS.items() for case in cases],
)
def test_it_is_refused_and_leaves_nothing(case: Case, oracle: Oracle) -> None:
    oracle.refuses(case)


def test_many_are_tried() -> None:
    assert sum(map(len, SECTIONS.values())) > 1000
