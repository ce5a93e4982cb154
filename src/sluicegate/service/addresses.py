"""Whose request it is: the address of the client, also where proxies stand before the service.

Each proxy appends to X-Forwarded-For the address that it was asked from, and anybody may have written what stands left
of that. So the field is read from its right end, for as long as whoever wrote there is a proxy that is trusted.
"""

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_FIELD: Final = b"x-forwarded-for"
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


def client_address(
    peer: tuple[str, int] | None, headers: Iterable[tuple[bytes, bytes]], trusted: Collection[Network]
) -> Address | None:
    """Return the address of the client; the last proxy's that is trusted, where what that one wrote is no address.

    `peer` is who is connected, as in an ASGI scope; without its address the client has none. `headers` have names in
    lower case. Whatever they hold, this raises nothing.
    """
    address = _parsed(peer[0].partition("%")[0]) if peer is not None else None  # a zone says where here, not who
    if address is None or not _is_within(address, trusted):
        return address
    for written in _from_the_right(headers):
        before = _parsed(_bare(written))
        if before is None:
            break
        address = before
        if not _is_within(address, trusted):
            break
    return address


def share_of(address: Address | None) -> str:
    """Return whom the requests of an address are counted for: an IPv4 address by itself, an IPv6 one with its /64. That
    is one subnet (RFC 4291, section 2.5.4), in which a host takes new addresses as it likes (RFC 8981). Those whose
    address is not known count together, as "".
    """
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address) if address is not None else ""


def networks_of(name: str, texts: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks that addresses and networks mean. Raises ValueError, which names the setting."""
    return tuple(_network(name, text) for text in texts)


def _network(name: str, text: str) -> Network:
    address = _parsed(text.partition("/")[0])
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        address = None
    if address is None:
        raise ValueError(f"{name}: must be addresses or networks, such as 10.0.0.7 or 10.0.0.0/24, not {text!r}")
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        plain = IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96))
        raise ValueError(f"{name}: {text!r} is an IPv4 network in IPv6; write {str(plain)!r}")
    if not network.prefixlen:
        raise ValueError(f"{name}: {text!r} is everybody, who could then take any address; name the proxies only")
    if address != network.network_address:
        raise ValueError(f"{name}: {text!r} begins within a network; write {str(network)!r}, or the address alone")
    return network


def _from_the_right(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    lines = [value for name, value in headers if name == _FIELD]
    for line in reversed(lines):
        for written in reversed(line.split(b",")):
            yield written.decode("latin-1").strip(" \t")


def _bare(written: str) -> str:
    """Return the address in `192.0.2.1:80`, `[2001:db8::1]:80` or the same in quotes."""
    if len(written) > 1 and written[0] == written[-1] == '"':
        written = written[1:-1]
    host, colon, port = written.rpartition(":")
    has_port = bool(colon) and port.isascii() and port.isdigit() and (host.endswith("]") or ":" not in host)
    host = host if has_port else written
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1] if ":" in host else ""
    return host


def _parsed(text: str) -> Address | None:
    """An IPv4 address that was mapped into IPv6 is itself again: all of them are in one /64."""
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _is_within(address: Address, networks: Collection[Network]) -> bool:
    return any(address in network for network in networks)
