"""Which proxy a request goes through: the one that was set, else those of the environment, by the usual variables."""

from collections.abc import Mapping
from typing import Final, Self

import httpx2

from ..machine.errors import SluicegateError

_SCHEMES: Final = ("http", "https")
_SUFFIX: Final = "_proxy"


class BadProxy(SluicegateError, ValueError):
    """A proxy that cannot be used. The message names the setting, never its value, which may hold a password."""


class Proxies:
    """Proxies by the scheme of the request, and the hosts that are reached without; `proxies[all]` is for the rest."""

    def __init__(self, proxies: Mapping[str, httpx2.Proxy], no_proxy: str = "") -> None:
        self._proxies = proxies
        self._exempt = [name.strip().lower() for name in no_proxy.split(",") if name.strip()]

    @classmethod
    def of_environment(cls, env: Mapping[str, str]) -> Self:
        """Return those of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; lower case wins, an empty value is none.

        NO_PROXY holds host names, which stand for their subdomains too, and addresses, with or without a port, between
        commas; `*` is every host. Raises BadProxy.
        """
        found = {name.lower(): value for name, value in sorted(env.items()) if name.lower().endswith(_SUFFIX)}
        proxies = {
            kind: checked_proxy(f"{kind}{_SUFFIX}".upper(), url)
            for kind in (*_SCHEMES, "all")
            if (url := found.get(f"{kind}{_SUFFIX}"))
        }
        return cls(proxies, found.get(f"no{_SUFFIX}", ""))

    @classmethod
    def of_setting(cls, url: str) -> Self:
        """Return the proxy at `url` for all requests. Raises BadProxy."""
        return cls({"all": checked_proxy("proxy", url)})

    def of(self, url: httpx2.URL) -> httpx2.Proxy | None:
        """Return the proxy for a request to `url`, None where it goes straight there."""
        port = url.port or (443 if url.scheme == "https" else 80)
        if any(_covers(name, url.host, port) for name in self._exempt):
            return None
        return self._proxies.get(url.scheme) or self._proxies.get("all")


def checked_proxy(name: str, url: str) -> httpx2.Proxy:
    """Return the proxy at `url`, which may be HOST:PORT alone. Raises BadProxy, naming `name`."""
    try:
        parsed = httpx2.URL(url if "://" in url else f"http://{url}")
    except httpx2.InvalidURL:
        parsed = httpx2.URL()
    if parsed.scheme not in _SCHEMES or not parsed.host:
        raise BadProxy(f"{name}: must be http://USER:PASSWORD@HOST:PORT or https://..., USER:PASSWORD@ only if needed")
    return httpx2.Proxy(parsed)


def _covers(name: str, host: str, port: int) -> bool:
    if name == "*":
        return True
    domain = name.removeprefix("*").removeprefix(".")
    for shown in (host, f"{host}:{port}", f"[{host}]", f"[{host}]:{port}"):
        if shown == domain or shown.endswith(f".{domain}"):
            return True
    return False
