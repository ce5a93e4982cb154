"""Providers from the environment: the official SDKs' own variables, else the scripted provider.

OPENAI_API_KEY, OPENAI_BASE_URL, ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL mean what they mean to the SDKs. An SDK is
imported only where it is used: each costs over a second of start-up. So is httpcore2, for 24 ms.
"""

from collections.abc import Mapping

import httpx2

from ..wire.upstream.profiles import ProfileName
from .options import ProviderOptions, Via
from .proxies import BadProxy, Proxies
from .scripted import ScriptedTransport
from .sdk import SdkProvider, Transport, UpstreamOptions
from .transport import TrioTransport


def provider_of(
    dialect: str,
    options: UpstreamOptions,
    transport: httpx2.AsyncBaseTransport,
    api_key: str,
    base_url: str | None,
    profile: ProfileName | None = None,
) -> SdkProvider:
    """Return a provider that speaks `dialect` through its official SDK. `profile` None: that of `options`."""
    if dialect == "anthropic":
        from .anthropic import anthropic_provider

        return anthropic_provider(options, transport, api_key, base_url)
    from .openai import openai_provider

    return openai_provider(dialect, options, transport, api_key, base_url, profile or options.profile)


def scripted_provider(dialect: str, transport: ScriptedTransport) -> SdkProvider:
    """Return the embedded provider: no key, no network, the real wire of `dialect` under the real SDK."""
    base_url = "http://scripted.invalid" if dialect == "anthropic" else "http://scripted.invalid/v1"
    return provider_of(dialect, UpstreamOptions(), transport, "scripted", base_url)


def providers_of(env: Mapping[str, str], options: UpstreamOptions) -> dict[str, ProviderOptions]:
    """Return the providers for which `env` has a key, that of `options.dialect` first; else the scripted one."""
    speaks_anthropic = options.dialect == "anthropic"
    providers: dict[str, ProviderOptions] = {}
    if env.get("OPENAI_API_KEY"):
        dialect = "openai_chat" if speaks_anthropic else options.dialect
        base_url = env.get("OPENAI_BASE_URL", "")
        providers["openai"] = ProviderOptions(
            dialect=dialect, base_url=base_url, api_key_env="OPENAI_API_KEY", profile=options.profile
        )
    if env.get("ANTHROPIC_API_KEY"):
        base_url = env.get("ANTHROPIC_BASE_URL", "")
        providers["anthropic"] = ProviderOptions(
            dialect="anthropic", base_url=base_url, api_key_env="ANTHROPIC_API_KEY"
        )
    if speaks_anthropic:
        providers = dict(reversed(providers.items()))
    return providers or {"scripted": ProviderOptions(dialect=options.dialect, via=Via.SCRIPTED)}


def proxies_of(options: UpstreamOptions, env: Mapping[str, str]) -> Proxies:
    """Return the proxies that requests go through. Raises BadProxy."""
    if options.transport is not Transport.DIRECT:
        return Proxies.of_setting(options.proxy) if options.proxy else Proxies.of_environment(env)
    if options.proxy:
        raise BadProxy("upstream.proxy: the direct transport uses none; set transport to stock or stock-http2, too")
    return Proxies({})


def transport_of(options: UpstreamOptions, proxies: Proxies) -> httpx2.AsyncBaseTransport:
    """Return a transport of the kind that `options` say."""
    if options.transport is Transport.DIRECT:
        return TrioTransport(max_connections=options.max_upstreams)
    from .stock import StockTransport

    return StockTransport(
        proxies, http2=options.transport is Transport.STOCK_HTTP2, max_connections=options.max_upstreams
    )
