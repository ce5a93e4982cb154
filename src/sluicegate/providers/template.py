"""An SDK's request, built by the SDK once and then copied: from one reply to the next only its body differs, and its
place in a trace.

Merging headers, options and URLs anew is half the cost of opening an upstream: 0.42 ms with it, 0.21 ms with copies.
"""

from collections.abc import Mapping
from typing import Any

import httpx2

_OF_THE_TRACE = ("traceparent", "tracestate")
_OF_ONE_REQUEST = ("content-length", "transfer-encoding", *_OF_THE_TRACE)


class Templated:
    """Mixed into an official async client, before it. Overrides the one private method that both SDKs build requests
    with; a test holds its copies against what the SDK builds. Retries, whose headers count them, are built by the SDK.
    """

    async def post_bytes(
        self, path: str, content: bytes, headers: Mapping[str, str], trace: Mapping[str, str]
    ) -> httpx2.Response:
        """Do what the SDK's `post` does, streaming. `headers` are the same in each call for `path`: the SDK makes its
        options of them once, and later ones differ from those in content and `trace` only.
        """
        all_headers = {**headers, **trace} if trace else headers
        options = self._kept("options").get(path)
        if options is not None:
            # With a key of its own the SDK makes none, at 10 us; it sends none in any case.
            copy = options.model_copy(update={"content": content, "headers": all_headers, "idempotency_key": "none"})
            return await super().request(httpx2.Response, copy, stream=True)  # type: ignore[misc,no-any-return]
        response: httpx2.Response = await super().post(  # type: ignore[misc]  # of the SDK's client, as above
            path, cast_to=httpx2.Response, stream=True, content=content, options={"headers": all_headers}
        )
        return response

    async def request(self, cast_to: Any, options: Any, **how: Any) -> Any:
        """Keep `options`, which the SDK itself works on copies of."""
        if isinstance(options.content, bytes):
            self._kept("options")[options.url] = options
        return await super().request(cast_to, options, **how)  # type: ignore[misc]  # the same

    def _build_request(self, options: Any, *, retries_taken: int = 0) -> httpx2.Request:
        if retries_taken or not isinstance(options.content, bytes):
            return self._built_anew(options, retries_taken=retries_taken)
        templates = self._kept("templates")
        template = templates.get(options.url)
        if template is None:
            template = templates[options.url] = self._built_anew(options)
            for name in _OF_ONE_REQUEST:
                template.headers.pop(name, None)
        # As a stream, since with `content` all headers are made anew, at 70 us.
        request = httpx2.Request(
            template.method,
            template.url,
            headers=template.headers,
            stream=httpx2.ByteStream(options.content),
            extensions=template.extensions,
        )
        request.headers["Content-Length"] = str(len(options.content))
        for name in _OF_THE_TRACE:
            if name in options.headers:
                request.headers[name] = options.headers[name]
        return request

    def _kept(self, what: str) -> dict[str, Any]:
        # Made here, because the SDK's __init__ knows nothing of it.
        kept: dict[str, Any] = self.__dict__.setdefault(f"_sluicegate_{what}", {})
        return kept

    def _built_anew(self, options: Any, *, retries_taken: int = 0) -> httpx2.Request:
        built: httpx2.Request = super()._build_request(options, retries_taken=retries_taken)  # type: ignore[misc]
        return built
