"""Where messages may go: to public addresses alone, judged again at every connection.

A name is resolved once for a connection, which goes to the address that was judged: a name that resolves to
something else a moment later leads nowhere (DNS rebinding).
"""

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from models.errors import WebhookUrlInvalid

MAX_URL = 2048
_PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def expect_callable(url: str, allowed_hosts: Collection[str]) -> None:
    """Judge an address that a user names. Raises WebhookUrlInvalid with what to change.

    A name that does not resolve now may do so later; it is judged again whenever it is called.
    """
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise WebhookUrlInvalid(f"The URL has to be at most {MAX_URL} printable ASCII characters.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WebhookUrlInvalid(f"This is not a URL: {error}.") from None
    if parts.scheme not in _PORTS:
        raise WebhookUrlInvalid("The URL has to begin with https:// or http://.")
    if not parts.hostname or port == 0:
        raise WebhookUrlInvalid("The URL names no host, or no port that can be called.")
    if "%" in parts.hostname:
        raise WebhookUrlInvalid("The URL's host must not have a zone or escapes (%).")
    if parts.username is not None or parts.password is not None:
        raise WebhookUrlInvalid("The URL must not contain a user name; signatures prove who calls.")
    if parts.fragment:
        raise WebhookUrlInvalid("The URL must not have a fragment (#…): it would not be sent.")
    try:
        judged(parts.hostname, port or _PORTS[parts.scheme], allowed_hosts)
    except OSError:
        return


def judged(host: str, port: int, allowed_hosts: Collection[str]) -> str:
    """The address to connect to for ``host``. Raises WebhookUrlInvalid, or OSError if it does not resolve.

    One address that is not public condemns the name: its owner would choose which of them is called.
    """
    # The resolver reads decimal, octal and hexadecimal notations of an address, too.
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    if host.lower().rstrip(".") not in allowed_hosts:
        for address in addresses:
            if not _is_public(ipaddress.ip_address(address)):
                raise WebhookUrlInvalid(
                    f"{host} leads to {address}, which is not a public address. If it shall be called all "
                    "the same, the operator adds the host to PERDURE_WEBHOOK_ALLOW_HOSTS."
                )
    return addresses[0]


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        # Addresses that carry one of version 4 lead to that one.
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner:
            return _is_public(inner)
        if address.is_site_local:  # deprecated, and still somebody's own network
            return False
        if address in _NAT64:
            return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
