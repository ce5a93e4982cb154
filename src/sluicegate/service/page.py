"""The page at `/`: what Vite built of `web/page`, from memory. It asks nothing of anybody but this service."""

import gzip
import mimetypes
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import msgspec
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import NotFound

_FOLDER: Final = files("sluicegate") / "web" / "static"
_INDEX: Final = "index.html"
# No inline script or style, nothing of another origin, no string that becomes code.
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_SAFE: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}


def add_page(app: QuartTrio) -> None:
    """Serve the page at `/`, and what belongs to it."""
    app.add_url_rule("/", "page", _serve, methods=["GET"])
    app.add_url_rule("/assets/<name>", "assets", _serve_asset, methods=["GET"])


class Asset(msgspec.Struct, frozen=True):
    """A file of the page, as it is and compressed, with the headers of both."""

    body: bytes
    packed: bytes
    headers: dict[str, str]
    etag: str


@cache
def assets() -> Mapping[str, Asset]:
    """Return the files of the page by their path; "" is the page itself. Reads and compresses them once, in 50 ms."""
    return dict(_found(_FOLDER, ""))


async def _serve(path: str = "") -> Response:
    asset = assets().get(path)
    if asset is None:
        raise NotFound
    if asset.etag in request.headers.get("If-None-Match", ""):
        return Response(b"", 304, asset.headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return Response(asset.packed, 200, {**asset.headers, "Content-Encoding": "gzip"})
    return Response(asset.body, 200, asset.headers)


async def _serve_asset(name: str) -> Response:
    return await _serve(f"assets/{name}")


def _found(folder: Traversable, path: str) -> list[tuple[str, Asset]]:
    found = []
    for each in folder.iterdir():
        if each.is_dir():
            found += _found(each, f"{path}{each.name}/")
        else:
            name = "" if each.name == _INDEX else path + each.name
            found.append((name, _asset(each.name, each.read_bytes(), is_named_by_content=bool(path))))
    return found


def _asset(name: str, body: bytes, *, is_named_by_content: bool) -> Asset:
    kept = "public, max-age=31536000, immutable" if is_named_by_content else "no-cache"
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    charset = "; charset=utf-8" if media_type.startswith("text/") else ""
    etag = f'"{sha256(body).hexdigest()[:16]}"'
    headers = {**_SAFE, "Content-Type": media_type + charset, "Cache-Control": kept, "ETag": etag}
    return Asset(body, gzip.compress(body, mtime=0), headers, etag)
