"""Where webhooks may lead. Oracle: 422 for whatever is not an http(s) URL of public addresses alone."""

import socket
from typing import Any

import pytest

from models.errors import WebhookUrlInvalid
from models.webhooks.addresses import expect_callable, judged

REFUSED = [
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://0.0.0.0/",
    "http://[::1]/",
    "http://[::]/",
    "http://[fe80::1%25eth0]/",
    "http://[fd00::1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://127.0.0.1:8000/",
    "file:///etc/passwd",
    "gopher://8.8.8.8/",
    "ftp://8.8.8.8/",
    "javascript:alert(1)",
    "//8.8.8.8/",
    "8.8.8.8",
    "",
    "http://",
    "http:///path",
    "http://user:secret@8.8.8.8/",
    "http://8.8.8.8:0/",
    "http://8.8.8.8:99999/",
    "http://8.8.8.8:port/",
    "http://[8.8.8.8/",
    "http://8.8.8.8/#fragment",
    "http://8.8.8.8/\r\nHost: x",
    "http://8.8.8.8/ a",
    "http://8.8.8.8/ä",
    "http://8.8.8.8/" + "a" * 3000,
]


def resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize("url", REFUSED)
def test_what_leads_inside_or_nowhere_is_refused(url: str) -> None:
    with pytest.raises(WebhookUrlInvalid) as refused:
        expect_callable(url, ())
    assert refused.value.message.endswith(".")


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
