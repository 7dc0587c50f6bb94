"""Where webhooks may lead. Oracle: 422 for whatever is not an http(s) URL of public addresses alone."""

import socket
from typing import Any

import pytest

from models.errors import WebhookUrlInvalid
from models.webhooks.addresses import expect_callable, judged


def resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize("url", ["https://8.8.8.8/hook?a=b", "http://[2001:4860:4860::8888]:8443/"])
def test_public_addresses_are_called(url: str) -> None:
    expect_callable(url, ())


def test_one_private_address_condemns_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, "8.8.8.8", "10.0.0.7")
    with pytest.raises(WebhookUrlInvalid, match=r"hooks\.example leads to 10\.0\.0\.7"):
        expect_callable("https://hooks.example/", ())


def test_operators_allow_hosts_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, "10.0.0.7")
    expect_callable("https://Hooks.example/", ("hooks.example",))
    assert judged("hooks.example", 443, ("hooks.example",)) == "10.0.0.7"


def test_a_name_is_judged_again_whenever_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, "8.8.8.8")
    expect_callable("https://hooks.example/", ())
    resolves_to(monkeypatch, "127.0.0.1")
    with pytest.raises(WebhookUrlInvalid):
        judged("hooks.example", 443, ())


def test_a_name_that_does_not_resolve_yet_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror("not now")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    expect_callable("https://later.example/", ())
