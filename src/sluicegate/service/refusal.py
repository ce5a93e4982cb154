"""What is answered before a request is routed or its body read: refusals have to cost little."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

from .problems import Refusal

ASKED: Final = "sluicegate.asked"  # the server's key in the ASGI state: it has asked, and the request may go on

Refuse = Callable[[str, str, Iterable[tuple[bytes, bytes]]], Refusal | None]


class Refusing:
    """An ASGI application in front of another. `refuse` gets method, path and headers of a request, and returns the
    answer to one that goes no further; its body is the server's to throw away.
    """

    def __init__(self, app: ASGIFramework, refuse: Refuse) -> None:
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Refusal, or hand on."""
        answer = None
        if scope["type"] == "http" and ASKED not in scope.get("state", {}):
            answer = self._refuse(scope["method"], scope["path"], scope["headers"])
        if answer is None:
            await self._app(scope, receive, send)
            return
        start: Any = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        await send(start)  # its type wants keys that ASGI leaves out
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})
