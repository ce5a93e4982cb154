"""The beginning of a reply: what comes before its first word is held back, so that another provider may be asked."""

from ..machine.deltas import Delta, Eof, Failure, FinishNotice, Started, UsageDelta
from ..machine.errors import RunError
from ..machine.reply import TRUNCATED

_SILENT = (Started, UsageDelta, FinishNotice)
_ENDS = (Failure, Eof)


class Opening:
    """Holds deltas until the reply has its first word, or has failed without one (`failure`). Then `take` them.
    `model` is what the provider calls the model, "" where it does not say.
    """

    def __init__(self) -> None:
        self.failure: RunError | None = None
        self.model = ""
        self._held: list[Delta] = []

    def feed(self, deltas: list[Delta]) -> bool:
        """Hold `deltas`; return whether the opening is over."""
        for delta in deltas:
            if isinstance(delta, _ENDS):
                self.failure = delta.error if isinstance(delta, Failure) else TRUNCATED
                break
            if not isinstance(delta, _SILENT):
                break
            if isinstance(delta, Started):
                self.model = self.model or delta.model
        else:
            self._held += deltas
            return False
        self._held += deltas
        return True

    def take(self) -> list[Delta]:
        """Return all that was held, which is no longer."""
        held, self._held = self._held, []
        return held
