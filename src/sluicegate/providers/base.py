"""What the runtime needs of a provider, and the ways in which one fails."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, Self, runtime_checkable

from ..machine.errors import RunError, SluicegateError
from ..machine.history import Request
from ..wire.upstream.base import Decoder

# Under this name a transport of ours hands out the body beside the response, as a Body: two layers of generators fewer
# for each token, and a close that waits for nobody.
BODY: Final = "sluicegate.body"
NO_TRACE: Final[Mapping[str, str]] = {}


@runtime_checkable
class Body(Protocol):
    """The bytes of a reply that can be cut off before their reader is scheduled again."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes:
        """Return what the next read brings. Raises httpx2's errors."""
        ...

    def close(self) -> None:
        """Close the upstream now, unless the reply is complete. Synchronous; may be called while another task waits in
        `__anext__`, which then raises or goes on waiting to be cancelled. A second time does nothing.
        """
        ...


class ProviderError(SluicegateError):
    """A provider did not answer; `error` is what clients are told, with nothing of the provider's text in it."""

    def __init__(self, error: RunError) -> None:
        super().__init__(error.message)
        self.error = error


class ProviderUnavailable(ProviderError):
    """The provider could not be reached, or is overloaded. Before the first delta another try may help."""


class ProviderRejected(ProviderError):
    """The provider refused the request; `status` is its HTTP status. Another try will not help."""

    def __init__(self, error: RunError, status: int) -> None:
        super().__init__(error)
        self.status = status


class StreamLost(ProviderError):
    """The connection broke while the reply was under way."""


class Provider(Protocol):
    """One way to reach models: an SDK client and a dialect."""

    def decoder(self) -> Decoder:
        """Return a fresh decoder for one reply of this provider's dialect."""
        ...

    def open(
        self, request: Request, trace: Mapping[str, str] = NO_TRACE
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Send `request`; inside the context, iterate over the raw bytes of the reply, all of one read at a time.
        `trace` has the headers of its trace context (`traceparent` and `tracestate`), which go along.

        Entering raises ProviderUnavailable or ProviderRejected; what iterating raises leaves the context as StreamLost.
        Leaving the context closes the upstream at once unless it was read to its end; then the connection is kept.
        Cancellation closes it too. The iterator may be a Body.
        """
        ...

    async def aclose(self) -> None:
        """Close the client and its pooled connections."""
        ...
