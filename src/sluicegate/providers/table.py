"""Providers and models from their tables in the settings."""

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from urllib.parse import urlsplit

from ..machine.errors import SluicegateError
from ..machine.price import Price
from . import prices
from .demo import demo_brain
from .dialects import dialect_of
from .environment import provider_of, providers_of, proxies_of, scripted_provider, transport_of
from .gate import Gate
from .models import Models, Served
from .options import NAME, ModelOptions, ProviderOptions, Via
from .proxies import Proxies
from .scripted import ScriptedTransport
from .sdk import SdkProvider, UpstreamOptions

DEFAULT_MODELS = {"openai": "gpt-5-mini", "anthropic": "claude-sonnet-4-5", "scripted": "scripted-demo"}
_HERE = ("localhost", "127.0.0.1", "::1")
_NO_KEY = "unused"  # servers on this machine seldom want one


class BadTable(SluicegateError):
    """A table of a provider or a model cannot be used; the message names it and says what to do."""


def from_tables(
    providers: Mapping[str, ProviderOptions],
    models: Mapping[str, ModelOptions],
    options: UpstreamOptions,
    env: Mapping[str, str],
) -> Models:
    """Return the models that `models` names, of `providers` (without one, of those that `env` has a key for); without
    names, all that these have.

    Reads the price table, which blocks for 0.2 s, where a provider may be in it. Raises BadTable and BadProxy.
    """
    providers = providers or providers_of(env, options)
    _check_names(providers, models)
    if any(_may_have_prices(each) for each in providers.values()):
        prices.load()
    proxies = proxies_of(options, env)
    served = {name: _served(name, each, options, proxies, env) for name, each in providers.items()}
    default = next(iter(providers))
    return Models(served, default, _default_model(providers[default], models, options), models, options.max_retries)


def _check_names(providers: Mapping[str, ProviderOptions], models: Mapping[str, ModelOptions]) -> None:
    for name in providers:
        if not NAME.fullmatch(name):
            raise BadTable(f"providers.{name}: a name has small letters, digits, - and _, at most 64; rename it")
    for name, model in models.items():
        for index, each in enumerate(model.use):
            provider = each.partition(":")[0]
            if provider not in providers:
                known = ", ".join(providers) or "none"
                raise BadTable(f"models.{name}.use[{index}]: there is no provider {provider!r}; there are: {known}")


def _default_model(first: ProviderOptions, models: Mapping[str, ModelOptions], options: UpstreamOptions) -> str:
    wanted = options.default_model
    if models:
        if wanted and wanted not in models:
            raise BadTable(f"upstream.default_model: {wanted!r} is none of the models; there are: {', '.join(models)}")
        return wanted or next(iter(models))
    if wanted:
        return wanted
    if first.via is Via.AZURE:
        raise BadTable("upstream.default_model: is missing; name the deployment for requests that name none")
    return DEFAULT_MODELS["scripted" if first.via is Via.SCRIPTED else first.dialect.partition("_")[0]]


def _served(
    name: str, each: ProviderOptions, options: UpstreamOptions, proxies: Proxies, env: Mapping[str, str]
) -> Served:
    own = {model: price.price() for model, price in each.prices.items()}
    return Served(
        _provider(name, each, options, proxies, env),
        Gate(name, each.gate),
        partial(_price, own, each),
        dialect_of(each.dialect).cache_count,
    )


def _price(own: Mapping[str, Price], each: ProviderOptions, model: str) -> Price | None:
    if model in own or not _may_have_prices(each):
        return own.get(model)
    match each.via:
        case Via.AZURE:
            return prices.price_of(model, "azure", None)
        case Via.VERTEX:
            return prices.price_of(model, "google", None)
    if not each.base_url:
        return prices.price_of(model, "anthropic" if each.dialect == "anthropic" else "openai", None)
    return prices.price_of(model, None, each.base_url)


def _provider(
    name: str, each: ProviderOptions, options: UpstreamOptions, proxies: Proxies, env: Mapping[str, str]
) -> SdkProvider:
    if each.via is Via.SCRIPTED:
        return scripted_provider(each.dialect, ScriptedTransport(demo_brain))
    transport = transport_of(options, proxies)
    match each.via:
        case Via.AZURE:
            from .openai import azure_provider

            return azure_provider(options, transport, _key(name, each, env), each.base_url, each.azure_api_version)
        case Via.VERTEX:
            from .anthropic import vertex_provider

            token = each.api_key.get_secret_value() if each.api_key else env.get(each.api_key_env)
            if not token and not _has_google_auth():
                raise BadTable(
                    f"providers.{name}.api_key: is missing, and the machine's credentials cannot be read without the "
                    "extra `vertex` (pip install 'sluicegate[vertex]')"
                )
            return vertex_provider(
                options, transport, token, each.base_url or None, each.vertex_project, each.vertex_region
            )
    return provider_of(each.dialect, options, transport, _key(name, each, env), each.base_url or None, each.profile)


def _has_google_auth() -> bool:
    try:
        return find_spec("google.auth") is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _key(name: str, each: ProviderOptions, env: Mapping[str, str]) -> str:
    if each.api_key is not None:
        return each.api_key.get_secret_value()
    variable = each.api_key_env
    if not variable and not each.base_url:  # a key of the environment is for nobody but its own provider
        variable = "ANTHROPIC_API_KEY" if each.dialect == "anthropic" else "OPENAI_API_KEY"
    if variable and (key := env.get(variable)):
        return key
    if not variable and _is_here(each.base_url):
        return _NO_KEY
    if not variable:
        raise BadTable(f"providers.{name}.api_key_env: is missing; name the variable with the key for {each.base_url}")
    raise BadTable(f"providers.{name}.api_key: is missing; set the variable {variable}, or name another in api_key_env")


def _may_have_prices(each: ProviderOptions) -> bool:
    return each.via is not Via.SCRIPTED and not _is_here(each.base_url)


def _is_here(base_url: str) -> bool:
    return urlsplit(base_url).hostname in _HERE
