"""What can be set: the rooms' own options, each in a table of its own."""

from pydantic_settings import BaseSettings, SettingsConfigDict

from ..providers.options import ModelOptions, ProviderOptions
from ..providers.sdk import UpstreamOptions
from ..runtime.options import RunOptions
from ..runtime.spool import SpoolOptions
from ..server.options import ServerOptions
from ..service.logs import LogOptions
from ..service.options import AccessOptions, LimitOptions, ServiceOptions, TelemetryOptions

PREFIX = "SLUICEGATE_"
NESTED = "__"


class Settings(BaseSettings):
    """Everything that `sluicegate serve` can be told. Frozen; `read` makes one, checked as a whole."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    tools: str | None = None
    """The tools to offer, MODULE:ATTRIBUTE; without it, the three of the demo."""
    server: ServerOptions = ServerOptions()
    """Where to listen, and what a client may cost."""
    service: ServiceOptions = ServiceOptions()
    """How requests are taken."""
    access: AccessOptions = AccessOptions()
    """Who may use the service."""
    limits: LimitOptions = LimitOptions()
    """How much each of them may use."""
    telemetry: TelemetryOptions = TelemetryOptions()
    """What OpenTelemetry is told."""
    log: LogOptions = LogOptions()
    """What is logged."""
    run: RunOptions = RunOptions()
    """How runs are driven, and their limits."""
    upstream: UpstreamOptions = UpstreamOptions()
    """How providers are reached."""
    providers: dict[str, ProviderOptions] = {}
    """The providers, each as a table `[providers.NAME]`; without one, those that the environment has a key for."""
    models: dict[str, ModelOptions] = {}
    """The names that clients may use for models, each as a table `[models.NAME]`; without one, whatever the providers
    have."""
    spool: SpoolOptions | None = None
    """Where usage is kept in files; without it, in memory."""
