"""JSON Web Tokens: one algorithm for each issuer, and everything forged is a 401."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sluicegate.service.access import Caller, Grants, RawHeaders
from sluicegate.service.files import LOOK_EVERY
from sluicegate.service.guard import Guard
from sluicegate.service.key_file import KeyFile, KeyRing
from sluicegate.service.key_sets import MAX_BYTES, SOONEST, BadKeySet, KeySet
from sluicegate.service.keys import make_key
from sluicegate.service.options import IssuerOptions
from sluicegate.service.problems import Problem
from sluicegate.service.tokens import MAX_OWNER, Tokens
from tests.security.rows import COUNTS

ISSUER, AUDIENCE = "https://issuer.test", "sluicegate"
RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk(key: Any, algorithm: str, kid: str | None) -> dict[str, Any]:
    found: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return found if kid is None else {**found, "kid": kid}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


RSA_SET = key_set(jwk(RSA, "RS256", "k1"), jwk(EC, "ES256", "ec"), {"kty": "oct", "k": "AAAA", "kid": "oct"})


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    every = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user-1", "iat": now, "exp": now + 600, **changed}
    return {name: value for name, value in every.items() if value is not None}


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "k1", **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm, {} if kid is None else {"kid": kid})


def bearing(text: str) -> RawHeaders:
    return [(b"authorization", b"Bearer " + text.encode())]


def unsigned(header: dict[str, Any], payload: dict[str, Any], sign: Callable[[bytes], bytes] = lambda _: b"") -> str:
    head, body = (base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in (header, payload))
    signature = base64.urlsafe_b64encode(sign(head + b"." + body)).rstrip(b"=")
    return b".".join([head, body, signature]).decode()


def options(path: Path, **more: Any) -> IssuerOptions:
    return IssuerOptions(ISSUER, AUDIENCE, str(path), **more)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(RSA_SET)
    return path


def status(tokens: Tokens, text: str) -> int:
    try:
        tokens.identify(bearing(text))
    except Problem as problem:
        return problem.status
    return 200


def test_a_token_names_the_owner_and_the_issuer_what_it_allows(keys: Path) -> None:
    tokens = Tokens([options(keys, models=("a",), detach=False)])
    owner, grants = f"{ISSUER} user-1", Grants(("a",), None, detach=False)
    assert tokens.identify(bearing(token())) == Caller(owner, grants, owner)
    assert tokens.identify(bearing(token(aud=["other", AUDIENCE]))).owner == f"{ISSUER} user-1"
    by_tenant = Tokens([options(keys, owner_claim="tenant")])
    assert by_tenant.identify(bearing(token(tenant="t"))).owner == f"{ISSUER} t"
    assert status(by_tenant, token()) == 401
    by_user = Tokens([options(keys, owner_claim="tenant", user_claim="sub")])
    assert by_user.identify(bearing(token(tenant="t"))).user == "user-1"
    by_nick = Tokens([options(keys, user_claim="nick")])
    assert status(by_nick, token(nick=7)) == status(by_nick, token(nick="x" * 257)) == 401
    assert Tokens([options(keys, user_claim="nickname")]).identify(bearing(token())).user == ""


NESTED = base64.urlsafe_b64encode(b"[" * 9_000).decode()
HS = {"alg": "HS256", "typ": "JWT", "kid": "k1"}
FORGED: dict[str, Callable[[], str]] = {
    "no algorithm": lambda: unsigned({"alg": "none", "kid": "k1"}, claims()),
    "no algorithm, spelled otherwise": lambda: unsigned({"alg": "nOnE", "kid": "k1"}, claims()),
    "the public key as an HMAC secret": lambda: unsigned(
        HS, claims(), lambda data: hmac.digest(PEM, data, hashlib.sha256)
    ),
    "the HMAC key of the same set": lambda: unsigned(
        {**HS, "kid": "oct"}, claims(), lambda data: hmac.digest(b"\0\0\0", data, hashlib.sha256)
    ),
    "another algorithm of the same key": lambda: token(algorithm="RS512"),
    "another key of the same set": lambda: token(EC, "ES256", "ec"),
    "a key of somebody else": lambda: token(OTHER),
    "a kid that is a path": lambda: token(kid="../../../../dev/null"),
    "a kid that is not there": lambda: token(kid="k2"),
    "no kid": lambda: token(OTHER, kid=None),
    "a key that it brings itself": lambda: jwt.encode(
        claims(), OTHER, "RS256", {"kid": "k1", "jwk": jwk(OTHER, "RS256", "k1")}
    ),
    "a place where its key is": lambda: jwt.encode(
        claims(), OTHER, "RS256", {"kid": "k1", "jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/cert"}
    ),
    "expired": lambda: token(exp=int(time.time()) - 60),
    "never expires": lambda: token(exp=None),
    "expires at infinity": lambda: unsigned({"alg": "RS256", "kid": "k1"}, claims(exp=1e400)),
    "expires in words": lambda: token(exp="soon"),
    "not yet": lambda: token(nbf=int(time.time()) + 60),
    "for another service": lambda: token(aud="other"),
    "for nobody": lambda: token(aud=None),
    "of another issuer": lambda: token(iss="https://other.test"),
    "of no issuer": lambda: token(iss=None),
    "issuers in a list": lambda: unsigned({"alg": "RS256", "kid": "k1"}, claims(iss=[ISSUER])),
    "about nobody": lambda: token(sub=None),
    "about an empty name": lambda: token(sub=""),
    "about too long a name": lambda: token(sub="x" * (MAX_OWNER + 1)),
    "a changed payload": lambda: ".".join(
        [token().split(".")[0], token(sub="root").split(".")[1], token().split(".")[2]]
    ),
    "no signature": lambda: ".".join([*token().split(".")[:2], ""]),
    "half": lambda: token()[:-20],
    "five parts": lambda: token() + ".a.b",
    "a payload nested without end": lambda: f"{token().partition('.')[0]}.{NESTED}.e30",
    "a header nested without end": lambda: f"{NESTED}.e30.e30",
    "no JSON": lambda: "e30.e30.e30",
}


def test_there_are_enough_forgeries() -> None:
    assert len(FORGED) >= COUNTS["forgeries"]


@pytest.mark.parametrize("name", FORGED)
def test_a_forgery_is_401(name: str, keys: Path) -> None:
    tokens = Tokens([options(keys), IssuerOptions("https://second.test", AUDIENCE, str(keys), "ES256")])
    assert status(tokens, FORGED[name]()) == 401
    assert status(tokens, token()) == 200  # and the true one is none


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (RSA, "PS384"), (EC, "ES256"), (ED, "EdDSA")])
def test_every_kind_of_key(key: Any, algorithm: Any, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(jwk(key, algorithm, None)))
    tokens = Tokens([options(path, algorithm=algorithm)])
    assert status(tokens, token(key, algorithm, None)) == 200  # the only key needs no name
    assert status(tokens, token(key, algorithm, "named")) == 401


def test_clocks_may_differ_a_little(keys: Path) -> None:
    tokens = Tokens([options(keys, leeway_seconds=100.0)])
    assert status(tokens, token(exp=int(time.time()) - 60)) == 200
    assert status(tokens, token(exp=int(time.time()) - 160)) == 401


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b'{"keys": 3}', key_set(jwk(EC, "ES256", "k")), b"[" * 10_000],
    ids=["empty", "object", "array", "number", "key for another algorithm", "depth"],
)
def test_a_file_without_a_key_is_refused_at_the_start(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    with pytest.raises(BadKeySet, match="cannot be read"):
        KeySet(str(path), "RS256", 1)
    path.write_bytes(data)
    with pytest.raises(BadKeySet, match=r"has no key for RS256|is not JSON"):
        KeySet(str(path), "RS256", 1)


def test_a_file_that_changes_is_read_again(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("sluicegate.service.files.Watched.__init__.__defaults__", (lambda: now,))
    tokens = Tokens([options(keys)])
    keys.write_bytes(key_set(jwk(OTHER, "RS256", "k2")))
    now += LOOK_EVERY
    assert status(tokens, token(OTHER, kid="k2")) == 200
    assert status(tokens, token()) == 401
    keys.write_bytes(b"{")
    now += LOOK_EVERY
    assert status(tokens, token(OTHER, kid="k2")) == 200


def test_keys_and_tokens_together(keys: Path, tmp_path: Path) -> None:
    made = make_key("me", 0.0, Grants())
    KeyFile(tmp_path / "keys.json").add(made.key)
    guard = Guard(KeyRing(tmp_path / "keys.json"), Tokens([options(keys)]))
    assert guard.identify(bearing(made.text)).owner == "me"
    assert guard.identify(bearing(token())).owner == f"{ISSUER} user-1"
    for wrong in (made.text[:-1] + "!", FORGED["no kid"](), "x"):
        with pytest.raises(Problem) as caught:
            guard.identify(bearing(wrong))
        assert caught.value.status == 401


@pytest.mark.parametrize("jwks", ["http://issuer.test/jwks", "https://", "ftp://a/b", "http://127.0.0.1.evil.test/"])
def test_keys_are_not_fetched_in_clear_over_the_network(jwks: str) -> None:
    with pytest.raises(ValueError, match=r"jwks: must be a path, or a URL https://HOST"):
        IssuerOptions(ISSUER, AUDIENCE, jwks)
    for good in ("keys.json", "https://issuer.test/jwks", "http://127.0.0.1:1/jwks", "http://[::1]:1/jwks"):
        assert IssuerOptions(ISSUER, AUDIENCE, good).jwks == good


SECOND_SET = key_set(jwk(OTHER, "RS256", "k2"))


async def test_keys_are_fetched_and_fetched_again(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Soon while there are none, and where a name is unknown; what cannot be had changes nothing."""
    del autojump_clock
    answers = [b"", RSA_SET, b"junk", b"x" * (MAX_BYTES + 1), SECOND_SET]
    fetched: list[float] = []

    def answer(_request: httpx2.Request) -> httpx2.Response:
        fetched.append(trio.current_time())
        body = answers.pop(0)
        return httpx2.Response(200 if body else 500, content=body)

    keys, began = KeySet("https://issuer.test/jwks", "RS256", 1_000.0), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keys.attend, httpx2.MockTransport(answer))
        await trio.sleep(1)
        assert (keys.is_there, keys.find("k1")) == (False, None)
        await trio.sleep(SOONEST)
        assert keys.is_there
        assert keys.find("k1") is not None
        await trio.sleep(500)
        assert len(fetched) == 2
        for _ in range(1_000):  # so many unknown names, and two fetches
            assert keys.find("k2") is None
            await trio.sleep(1.9 * SOONEST / 1_000)
        await trio.sleep(SOONEST)
        assert keys.find("k1") is None
        assert keys.find("k2") is not None
        nursery.cancel_scope.cancel()
    assert [round(at - began) for at in fetched] == [0, 10, 511, 521, 531]
    assert [record.message for record in caplog.records if "no new keys" in record.message][1:] == [
        "no new keys from https://issuer.test/jwks: https://issuer.test/jwks: is not JSON",
        f"no new keys from https://issuer.test/jwks: https://issuer.test/jwks: is longer than {MAX_BYTES} bytes",
    ]


@pytest.mark.sockets
async def test_until_the_keys_are_there_the_answer_is_503() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(RSA_SET), RSA_SET))

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        tokens = Tokens([IssuerOptions(ISSUER, AUDIENCE, f"http://127.0.0.1:{port}/jwks", refresh_seconds=1.0)])
        assert status(tokens, token()) == 503
        nursery.start_soon(tokens.attend)
        with trio.fail_after(10):
            while status(tokens, token()) == 503:
                await trio.lowlevel.checkpoint()
        assert status(tokens, token()) == 200
        nursery.cancel_scope.cancel()
