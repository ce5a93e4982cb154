"""Whose request it is: nobody chooses the address that they are counted for, and each client behind proxies has one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
import trio
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sluicegate.providers.script import Say
from sluicegate.service.addresses import Address, client_address, networks_of, share_of
from sluicegate.service.limits import Limits
from sluicegate.service.options import LimitOptions, Rates, ServiceOptions
from tests.security.rows import COUNTS

from .harness import JSON, LINKS, Exchange, SocketExchange, Stack, over, stack

BODY = b'{"messages": [{"role": "user", "content": "Hi"}]}'
TEXTS = ("10.0.0.0/29", "192.0.2.7", "2001:db8:1::/125", "::1")
TRUSTED = networks_of("x", TEXTS)
PROXIES = st.sampled_from([each for text in TEXTS for each in ip_network(text)])
ANY = st.ip_addresses() | PROXIES
CLIENTS = ANY.filter(lambda each: not any(each in network for network in TRUSTED))
JUNK = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode()),
    ANY.map(lambda each: str(each).encode()),
    st.lists(st.sampled_from([b'"', b"[", b"]", b":", b",", b"%", b"1", b"10.0.0.1", b"::1", b" "]), max_size=12).map(
        b"".join
    ),
)  # fmt: skip
LINES = st.lists(JUNK, max_size=4)
IN_FOUR = ("{}", "{}:4711", '"{}"', '"{}:1"', " {}\t")
IN_SIX = ("{}", '"{}"', " {}\t", "[{}]", "[{}]:65535", '"[{}]:80"')


def writings(address: Address) -> st.SearchStrategy[bytes]:
    """A proxy's ways to write an address: with a port or not, in quotes, an IPv4 one mapped into IPv6, in capitals."""
    text, six = str(address), [address.exploded.upper()]
    if isinstance(address, IPv4Address):
        six = [f"::ffff:{text}", f"::FFFF:{text}"]
    plain = [shape.format(text) for shape in (IN_FOUR if isinstance(address, IPv4Address) else IN_SIX)]
    other = [shape.format(each) for shape in IN_SIX for each in six]
    return st.sampled_from([each.encode() for each in (*plain, *other)])


def headers(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((b"x-forwarded-for", line) for line in lines), (b"x-real-ip", b"203.0.113.9")]


def believed(text: str) -> Address:
    """The address that `text` means, in the simplest way."""
    address = ip_address(text)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@given(CLIENTS, LINES, st.lists(PROXIES, max_size=4), st.data())
def test_the_client_is_who_asked_the_first_trusted_proxy(
    client: Address, lines: list[bytes], proxies: list[Address], data: st.DataObject
) -> None:
    """Whatever the client sent itself. Each proxy appends whom it was asked by, to the last line or in its own."""
    client = believed(str(client))
    assume(not any(client in network for network in TRUSTED))
    lines, peer = list(lines), client
    for proxy in proxies:
        written, joined = data.draw(writings(peer)), data.draw(st.booleans())
        if lines and joined:
            lines[-1] += b"," + written
        else:
            lines.append(written)
        peer = proxy
    assert client_address((str(peer), 1), headers(lines), TRUSTED) == client


@given(CLIENTS, st.lists(PROXIES, min_size=1, max_size=4), st.integers(0, 3), st.data())
def test_behind_a_proxy_that_writes_no_address_its_own_counts(
    client: Address, proxies: list[Address], broken: int, data: st.DataObject
) -> None:
    wrong = st.sampled_from([
        b"", b"unknown", b"_hidden", b"1.2.3", b"1.2.3.4.5", b"01.2.3.4", b"1.2.3.4:", b"1.2.3.4:x", b"[1.2.3.4]",
        b"[::1", b"::1]", b"[::1]x", b'"1.2.3.4', b'"', b"fe80::1%eth0", b"1.2.3.4/32", b"1.2.3.4 5.6.7.8", b"\xff",
        b"::1:80:", b"\xd9\xa1.2.3.4", b"1.2.3.4\x00", b"for=1.2.3.4",
    ])  # fmt: skip
    broken %= len(proxies)
    written, peer = [], client
    for number, proxy in enumerate(proxies):
        written.append(data.draw(wrong) if number == broken else data.draw(writings(peer)))
        peer = proxy
    assert client_address((str(peer), 1), headers([b", ".join(written)]), TRUSTED) == proxies[broken]


@given(CLIENTS, LINES, st.sampled_from([(), TRUSTED]))
def test_who_is_no_trusted_proxy_is_who_they_are(client: Address, lines: list[bytes], trusted: tuple[()]) -> None:
    assume(not any(believed(str(client)) in network for network in TRUSTED))
    assert client_address((str(client), 1), headers(lines), trusted) == believed(str(client))


@given(st.none() | st.tuples(st.text(max_size=20) | ANY.map(str), st.integers()), LINES)
@example(None, [b"192.0.2.1"])
@example(("not an address", 0), [b"192.0.2.1"])
@example(("10.0.0.1", 0), [b"," * 10_000])
@example(("10.0.0.1", 0), [b"10.0.0.1," * 10_000])
def test_junk_raises_nothing(peer: tuple[str, int] | None, lines: list[bytes]) -> None:
    address = client_address(peer, headers(lines), TRUSTED)
    known = client_address(peer, [], ())
    assert (address is None) == (known is None)
    if known is None or not any(known in network for network in TRUSTED):
        assert address == known
    assert isinstance(share_of(address), str)


def test_where_all_are_trusted_it_is_the_first_of_them() -> None:
    assert client_address(("::ffff:10.0.0.1", 1), headers([b"10.0.0.3, 10.0.0.2"]), TRUSTED) == IPv4Address("10.0.0.3")
    assert client_address(("10.0.0.1", 1), headers([]), TRUSTED) == IPv4Address("10.0.0.1")
    assert client_address(("fe80::1%eth0", 1), headers([]), TRUSTED) == IPv6Address("fe80::1")


@given(ANY, ANY)
def test_a_share_is_an_ipv4_address_or_an_ipv6_network_of_64_bits(one: Address, other: Address) -> None:
    if isinstance(one, IPv6Address) and isinstance(other, IPv6Address):
        assert (share_of(one) == share_of(other)) == (int(one) >> 64 == int(other) >> 64)
        assert other in IPv6Network(share_of(other))
    else:
        assert (share_of(one) == share_of(other)) == (one == other)
    assert share_of(None) not in (share_of(one), share_of(other))


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("nginx", "must be addresses or networks, such as 10.0.0.7 or 10.0.0.0/24, not 'nginx'"),
        ("", "must be addresses or networks"),
        ("10.0.0.0/33", "must be addresses or networks"),
        ("10.0.0.1:80", "must be addresses or networks"),
        ("fe80::1%eth0", "must be addresses or networks"),
        ("*", "must be addresses or networks"),
        ("10.0.0.1/24", "'10.0.0.1/24' begins within a network; write '10.0.0.0/24', or the address alone"),
        ("2001:db8::1/32", "begins within a network; write '2001:db8::/32'"),
        ("::ffff:10.0.0.0/104", "'::ffff:10.0.0.0/104' is an IPv4 network in IPv6; write '10.0.0.0/8'"),
        ("::ffff:10.0.0.1", "is an IPv4 network in IPv6; write '10.0.0.1/32'"),
        ("0.0.0.0/0", "'0.0.0.0/0' is everybody"),
        ("::/0", "'::/0' is everybody"),
    ],
)
def test_what_means_no_proxies_is_refused_with_its_cure(text: str, cure: str) -> None:
    with pytest.raises(ValueError, match=r"^trusted_proxies: ") as caught:
        ServiceOptions(trusted_proxies=("127.0.0.1", text))
    assert cure in str(caught.value)


async def statuses(up: Stack, asked: Sequence[Mapping[str, str]]) -> Counter[int]:
    """What became of requests, one behind the other."""
    found: Counter[int] = Counter()
    for each in asked:
        found[(await (await up.open("POST", "/chat", BODY, {**JSON, **each})).answer()).status] += 1
    return found


def limited(requests: int) -> Limits:
    return Limits(LimitOptions(address=Rates(requests_per_minute=requests)))


@pytest.mark.once
@LINKS
@pytest.mark.parametrize(
    ("trusted", "sent"),
    [
        ((), "none"),
        ((), "{made_up}"),
        (("192.0.2.1", "::1"), "{made_up}"),
        (("127.0.0.1",), "{made_up}, 203.0.113.9"),
    ],
    ids=["honest", "from nobody", "from no proxy", "behind a proxy"],
)
def test_thousand_made_up_addresses_are_worth_none(trusted: tuple[str, ...], sent: str, socket: bool) -> None:
    """As many are refused as without them."""
    made_up = (f"198.51.{number // 250}.{number % 250}" for number in range(COUNTS["rotations"]))
    requests = [{"X-Forwarded-For": sent.format(made_up=each)} if sent != "none" else {} for each in made_up]

    async def main() -> None:
        options = ServiceOptions(trusted_proxies=trusted)
        async with stack(lambda _: [Say("Hello.")], socket=socket, options=options, limits=limited(5)) as up:
            assert await statuses(up, requests) == {200: 5, 429: COUNTS["rotations"] - 5}

    over(socket, main)


@LINKS
def test_behind_a_trusted_proxy_each_address_has_its_own(socket: bool) -> None:
    """And each IPv6 network of 64 bits; what an address is refused costs no other one anything."""

    async def main() -> None:
        options, limits = ServiceOptions(trusted_proxies=("127.0.0.1",)), limited(2)
        async with stack(lambda _: [Say("Hello.")], socket=socket, options=options, limits=limits) as up:
            for number in range(20):
                four = [{"X-Forwarded-For": f"198.51.100.{number}:{port}"} for port in range(3)]
                assert await statuses(up, four) == {200: 2, 429: 1}
                six = [{"X-Forwarded-For": f"[2001:db8:0:{number:x}:{host:x}::1]"} for host in range(3)]
                assert await statuses(up, six) == {200: 2, 429: 1}
            assert len(limits._meters) == 40
            answer = await (await up.open("POST", "/chat", BODY, {**JSON, **six[0]})).answer()
            assert answer.error["message"].startswith("requests_per_minute: 2 are allowed for this address; try again")
            assert (answer.header("RateLimit") or "").startswith('"address-requests";r=0;t=')

    over(socket, main)


@LINKS
def test_who_is_refused_leaves_nothing_behind(socket: bool) -> None:
    async def main() -> None:
        options = ServiceOptions(trusted_proxies=("127.0.0.1",))
        limits = Limits(LimitOptions(model=Rates(1), address=Rates(1)))
        async with stack(lambda _: [Say("Hello.")], socket=socket, options=options, limits=limits) as up:
            asked = [{"X-Forwarded-For": f"198.51.100.{number}"} for number in range(50)]
            assert await statuses(up, asked) == {200: 1, 429: 49}
            assert len(limits._meters) == 2

    over(socket, main)


@pytest.mark.sockets
async def test_peers_are_told_apart_by_their_own_addresses() -> None:
    """One of them is trusted; the others may write what they like."""
    options = ServiceOptions(trusted_proxies=("127.0.0.2",))
    async with stack(lambda _: [Say("Hello.")], socket=True, options=options, limits=limited(1)) as up:
        found = []
        for peer, client in (
            ("127.0.0.1", "198.51.100.1"), ("127.0.0.3", "198.51.100.1"), ("127.0.0.2", "198.51.100.1"),
            ("127.0.0.2", "198.51.100.2"), ("127.0.0.1", "198.51.100.3"), ("127.0.0.3", "127.0.0.2"),
        ):  # fmt: skip
            found.append((await (await ask_from(peer, up.url, {"X-Forwarded-For": client})).answer()).status)
        assert found == [200, 200, 200, 200, 429, 429]


async def ask_from(peer: str, url: str, more: Mapping[str, str]) -> Exchange:
    """Ask for a run from a local address."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    exchange = SocketExchange(await trio.open_tcp_stream(host, int(port), local_address=peer))
    await exchange.ask("POST", "/chat", {**JSON, **more}, BODY)
    return exchange
