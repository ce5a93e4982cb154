"""API keys: who has one may do what it allows, everybody else gets the same 401."""

import ast
import stat
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.providers.script import Reply, Say, Stall
from sluicegate.service.access import Caller, Grants, RawHeaders
from sluicegate.service.files import LOOK_EVERY
from sluicegate.service.key_file import KeyFile, KeyFileError, KeyRing
from sluicegate.service.keys import NewKey, is_secret_of, make_key
from sluicegate.service.problems import Problem
from tests.security.rows import COUNTS

from .harness import JSON, LINKS, Answer, Stack, over, stack

BODY = b'{"messages": [{"role": "user", "content": "Hi"}]%b}'
FUZZED, TRIES = COUNTS["authorizations"], COUNTS["guesses"]
SERVICE = Path(__file__).resolve().parents[2] / "src" / "sluicegate" / "service"
SECRETS = {"hash", "secret", "token", "text", "key"}


def bearing(text: str | bytes) -> RawHeaders:
    return [(b"authorization", b"Bearer " + (text if isinstance(text, bytes) else text.encode()))]


class Clock:
    """Unix seconds that go when they are told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def added(path: Path, owner: str = "me", grants: Grants | None = None, expires: float | None = None) -> NewKey:
    made = make_key(owner, 0.0, grants or Grants(), expires)
    KeyFile(path).add(made.key)
    return made


def refused(ring: KeyRing, text: str | bytes) -> bool:
    try:
        ring.identify(bearing(text))
    except Problem as problem:
        return problem.status == 401
    return False


async def ask(up: Stack, text: str, more: bytes = b"", method: str = "POST", path: str = "/chat") -> Answer:
    body = BODY % more if method == "POST" else b""
    return await (await up.open(method, path, body, {**JSON, "Authorization": f"Bearer {text}"})).answer()


def test_a_key_is_good_from_its_making_to_its_end(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    forever, until = added(path), added(path, "her", Grants(("a",)), expires=1_010.0)
    ring = KeyRing(path, clock)
    assert ring.identify(bearing(forever.text)) == Caller("me", key=forever.key.id)
    assert ring.identify(bearing(until.text)) == Caller("her", Grants(("a",)), until.key.id)
    clock.now = 1_009.9
    assert not refused(ring, until.text)
    clock.now = 1_010.0
    assert refused(ring, until.text)
    assert KeyFile(path).revoke(forever.key.id, clock.now)
    assert not KeyFile(path).revoke("0" * 12, clock.now)
    clock.now += LOOK_EVERY
    assert refused(ring, forever.text)
    later = added(path)
    clock.now += LOOK_EVERY
    assert not refused(ring, later.text)
    assert KeyFile(path).revoke(forever.key.id, clock.now + 5)
    first = next(key for key in KeyFile(path).read() if key.id == forever.key.id)
    assert first.revoked == 1_010.0  # the first time counts


def test_no_secret_is_kept_and_the_file_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made = added(path)
    _, _, secret = made.text.split("-", 2)
    assert len(secret) == 43
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made.text not in repr(made.key)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["keys.json", "keys.json.lock"]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"keys": [{"id": 1}]}', b'{"kees": []}', b"\xff"])
def test_a_damaged_file_is_refused_at_the_start_and_changes_nothing_later(damage: bytes, tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    made = added(path)
    ring = KeyRing(path, clock)
    path.write_bytes(damage)
    clock.now += LOOK_EVERY
    assert not refused(ring, made.text)
    for use in (lambda: KeyRing(path), lambda: KeyFile(path).add(made.key), lambda: KeyFile(path).revoke("x", 0.0)):
        with pytest.raises(KeyFileError, match=r"keys\.json: cannot be read"):
            use()
    path.unlink()
    clock.now += LOOK_EVERY
    assert refused(ring, made.text)  # no file, no keys


@given(st.data())
def test_one_character_makes_another_key(data: st.DataObject) -> None:
    made = make_key("me", 0.0, Grants())
    at = data.draw(st.integers(0, len(made.text) - 1))
    other = data.draw(st.characters(codec="latin-1").filter(lambda each: each != made.text[at]))
    changed = made.text[:at] + other + made.text[at + 1 :]
    assert is_secret_of(made.key, made.text)
    assert not is_secret_of(made.key, changed)
    assert not is_secret_of(None, made.text)


def _spelled(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


VALUES = st.one_of(
    st.binary(max_size=80),
    st.binary(max_size=80).map(lambda each: b"Bearer " + each),
    st.builds(
        lambda word, gap, name, secret: b"%s%ssg-%s-%s" % (word, b" " * gap, name.hex().encode(), _spelled(secret)),
        st.sampled_from([b"Bearer", b"bearer", b"BEARER", b"beAReR"]),
        st.integers(1, 3),
        st.binary(min_size=6, max_size=6),
        st.binary(min_size=30, max_size=34),
    ),
    st.lists(st.binary(max_size=30).map(lambda each: b"eyJ" + _spelled(each)), min_size=1, max_size=4).map(
        lambda parts: b"Bearer " + b".".join(parts)
    ),
    st.text(max_size=30).map(lambda each: b"Basic " + each.encode()),
)


@pytest.mark.once
def test_whatever_authorization_says_it_is_401(tmp_path: Path) -> None:
    """Of fuzzed headers, none, one or two; nothing is raised but that Problem."""
    path = tmp_path / "keys.json"
    added(path)
    ring = KeyRing(path)
    seen: set[tuple[bytes, ...]] = set()

    @settings(max_examples=FUZZED)
    @given(st.lists(VALUES, max_size=2))
    def check(values: list[bytes]) -> None:
        seen.add(tuple(values))
        with pytest.raises(Problem) as caught:
            ring.identify([(b"authorization", value) for value in values])
        assert caught.value.status == 401
        assert caught.value.headers["WWW-Authenticate"].startswith("Bearer")

    check()
    assert len(seen) > FUZZED // 2


def test_a_key_must_come_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made = added(path)
    ring = KeyRing(path)
    (header,) = bearing(made.text)
    for spelled in (b"bearer ", b"BEARER  "):
        assert ring.identify([(b"authorization", spelled + made.text.encode())]).owner == "me"
    with pytest.raises(Problem):
        ring.identify([header, header])


def test_secrets_are_compared_in_constant_time() -> None:
    """By `hmac.compare_digest`: nowhere in the service is anything that may be secret compared by == or !=."""
    compared = 0
    for path in SERVICE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(isinstance(each, ast.Eq | ast.NotEq) for each in node.ops):
                sides = [node.left, *node.comparators]
                names = {each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "") for each in sides}
                compared += 1
                assert not names & SECRETS, f"{path.name}:{node.lineno}"
    assert compared > 10
    assert "hmac.compare_digest(" in (SERVICE / "keys.py").read_text()


@LINKS
def test_a_key_allows_what_it_allows(socket: bool, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "keys.json"
        all_of_it = added(path)
        little = added(path, "her", Grants(("scripted-demo",), (), detach=False))
        async with stack(lambda _: [Say("Hello.")], socket=socket, access=KeyRing(path)) as up:
            without = await (await up.open("POST", "/chat", BODY % b"", JSON)).answer()
            wrong = await ask(up, all_of_it.text[:-1] + "!")
            assert without.status == wrong.status == 401
            assert without.body == wrong.body
            assert without.header("WWW-Authenticate") == 'Bearer realm="sluicegate"'
            assert without.error["code"] == "UNAUTHORIZED"
            for more in (b"", b', "model": "x"', b', "on_disconnect": "detach"', b', "tools": ["calculate"]'):
                assert (await ask(up, all_of_it.text, more)).status == 200
            assert (await ask(up, little.text, b', "model": "scripted-demo"')).status == 200
            for more, status, words in (
                (b', "model": "x"', 403, "model: this key does not allow it; it allows scripted-demo."),
                (b', "on_disconnect": "detach"', 403, "on_disconnect: this key does not allow detach; use cancel."),
                (b', "model": "scripted-demo", "tools": ["calculate"]', 400, "is not a tool here; there are: none."),
            ):
                answer = await ask(up, little.text, more)
                assert (answer.status, words in answer.error["message"]) == (status, True), answer.body
            assert (await (await up.open("GET", "/healthz")).answer()).status == 200

    over(socket, main)


@LINKS
def test_another_ones_run_cannot_be_guessed(socket: bool, tmp_path: Path) -> None:
    """Its id neither, of course; and with the id, all answers are those to an id that there is not."""

    async def main() -> None:
        path = tmp_path / "keys.json"
        mine, hers = added(path, "me"), added(path, "her")
        script: Reply = [Say("Hello."), Stall()]
        async with stack(lambda _: script, socket=socket, access=KeyRing(path)) as up:
            stream = await up.open("POST", "/chat", BODY % b"", {**JSON, "Authorization": f"Bearer {mine.text}"})
            run = (await stream.head()).run_id
            answers = set()
            for number in range(TRIES if not socket else TRIES // 10):
                guess = run if number % 10 == 0 else f"{number:032x}"
                for method, url in (("GET", f"/runs/{guess}/events"), ("DELETE", f"/runs/{guess}")):
                    answer = await ask(up, hers.text, method=method, path=url)
                    answers.add((answer.status, answer.body))
            assert [status for status, _ in answers] == [404]
            assert (await ask(up, mine.text, method="DELETE", path=f"/runs/{run}")).status == 204
            await stream.leave()

    over(socket, main)
