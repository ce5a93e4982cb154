"""Which call does a delta belong to? Wires name calls by index, by id, by both or by nothing; this file decides."""

from .arguments import is_json
from .deltas import CallDelta, CallTotal, FinishReason, Key
from .events import CallBroken, CallReady, PartDelta, PartEnded, PartKind, PartStarted, ReplyEvent
from .parts import GrowingPart, PartState
from .reply_table import Symbol
from .text import mend, utf8_len


class Calls:
    """The tool calls of one reply, in the order in which they began.

    The rules, each from a server that needs it: the wire's key names the call (case 11); empty ids and names say
    nothing (12); a new id with a name on a known key is a new call (15); without a key the id decides, then the last
    open call, unless that is complete and the delta has a name (16); a name is said once, repeats are ignored (14); a
    call without an id gets one (13).
    """

    def __init__(self, prefix: str) -> None:
        self.order: list[GrowingPart] = []
        self.outcomes: list[CallReady | CallBroken] = []
        self._prefix = prefix
        self._by_key: dict[Key, GrowingPart] = {}
        self._by_id: dict[str, GrowingPart] = {}

    def classify(self, delta: CallDelta | CallTotal) -> Symbol:
        """Name what `delta` means. Pure."""
        call = self.find(delta)
        if call is None:
            return Symbol.CALL_OPEN
        if call.state is not PartState.ENDED:
            return Symbol.CALL_MORE
        if isinstance(delta, CallTotal):
            return Symbol.NOTHING_NEW if delta.arguments in ("", call.text()) else Symbol.CALL_LATE
        return Symbol.CALL_LATE if delta.arguments else Symbol.NOTHING_NEW

    def find(self, delta: CallDelta | CallTotal) -> GrowingPart | None:
        """Return the call that `delta` goes on with, or None if it begins one. Pure."""
        if delta.key is None:
            return self._find_keyless(delta)
        call = self._by_key.get(delta.key)
        return None if call is None or self._is_other(call, delta) else call

    def _find_keyless(self, delta: CallDelta | CallTotal) -> GrowingPart | None:
        if delta.call_id in self._by_id:
            return self._by_id[delta.call_id]
        last = self.order[-1] if self.order else None
        if last is None or (delta.name and (delta.call_id or delta.name != last.name or _is_complete(last))):
            return None
        return last

    def _is_other(self, call: GrowingPart, delta: CallDelta | CallTotal) -> bool:
        """True if `delta`, though it has the key of `call`, begins another call."""
        if delta.call_id and call.call_id in self._by_id:
            return delta.call_id != call.call_id and bool(delta.name or _is_complete(call))
        if not delta.name or not call.name:
            return False
        if delta.name != call.name:
            return _is_complete(call)
        return delta.arguments.startswith("{") and delta.arguments != call.text() and _is_complete(call)

    def is_open(self, key: Key) -> bool:
        """True if the call that `key` names has not ended."""
        call = self._by_key.get(key)
        return call is not None and call.state is not PartState.ENDED

    def open(self, delta: CallDelta | CallTotal, index: int) -> GrowingPart:
        """Begin a call as part `index`."""
        call = GrowingPart(PartKind.CALL, index, delta.key, PartState.NAMELESS)
        self.order.append(call)
        self._by_key[delta.key] = call
        return call

    def append(self, call: GrowingPart, delta: CallDelta | CallTotal, events: list[ReplyEvent]) -> int:
        """Add what `delta` says to `call`; return the size of the new arguments in bytes."""
        if delta.call_id and not call.call_id and delta.call_id not in self._by_id:
            call.call_id = delta.call_id
            self._by_id[delta.call_id] = call
        if delta.name and delta.name != call.name and not (call.name and call.fragments):
            call.name += delta.name
        if delta.raw:
            call.raws.append(delta.raw)
        text = delta.arguments
        if isinstance(delta, CallTotal):
            known = call.text()
            total, held = mend(text)  # as `known` is
            text = total.removeprefix(known)
            if known and text == total:
                # The wire's last word disagrees with its deltas: it wins, but what was shown stays shown.
                if text:
                    call.fragments, call.held = [text], held
                return 0
            text += held
            call.held = ""  # it is in the total
        if shown := call.take(text):
            call.size += utf8_len(text)
        if call.state is PartState.OPEN:
            if shown:
                events.append(PartDelta(call.index, PartKind.CALL, shown))
        elif call.name and (call.call_id or call.fragments):
            self._announce(call, events)
        return utf8_len(text)

    def end(self, call: GrowingPart, finish: FinishReason | None, events: list[ReplyEvent]) -> None:
        """End `call` and judge its arguments; `finish` is why the reply ended, None while it goes on."""
        if call.state is PartState.NAMELESS:
            self._announce(call, events)
        if rest := call.release():
            events.append(PartDelta(call.index, PartKind.CALL, rest))
        call.state = PartState.ENDED
        outcome = call.settle(finish)
        self.outcomes.append(outcome)
        events += (PartEnded(call.index, PartKind.CALL), outcome)

    def end_keyed(self, key: Key, events: list[ReplyEvent]) -> None:
        """End the open call that `key` names."""
        self.end(self._by_key[key], None, events)

    def end_all(self, finish: FinishReason | None, events: list[ReplyEvent]) -> None:
        """End every call that is still open, in order."""
        for call in self.order:
            if call.state is not PartState.ENDED:
                self.end(call, finish, events)

    def _announce(self, call: GrowingPart, events: list[ReplyEvent]) -> None:
        call.state = PartState.OPEN
        call.call_id = call.call_id or f"{self._prefix}{call.index}"
        events.append(PartStarted(call.index, PartKind.CALL, call.call_id, call.name))
        if text := call.text():
            events.append(PartDelta(call.index, PartKind.CALL, text))


def _is_complete(call: GrowingPart) -> bool:
    # The cheap look at the last fragment keeps servers that repeat the name in every delta linear.
    return bool(call.fragments) and call.fragments[-1].rstrip().endswith("}") and is_json(call.text())
