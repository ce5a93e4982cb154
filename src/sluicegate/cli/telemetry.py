"""Who observes the runs of `sluicegate serve`: its log, and OpenTelemetry where a collector is named."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from ..runtime.observers import LogLine, Observer
from ..service.chats import provider_names
from ..settings import BadSettings, Settings
from ..tools.registry import Registry


@contextmanager
def observing(settings: Settings, tools: Registry) -> Iterator[tuple[Observer, ...]]:
    """Give the observers. Leaving takes `service.telemetry.CLOSE_SECONDS` at most. Raises BadSettings where packages
    are missing.
    """
    if not settings.telemetry.otlp_endpoint:
        yield (LogLine(),)
        return
    try:
        from ..service.telemetry import Telemetry  # with the SDK of OpenTelemetry, which need not be installed
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("opentelemetry"):
            raise
        raise BadSettings(
            [
                f"telemetry.otlp_endpoint: needs packages that are not installed ({error.name}); install the extra "
                "`otel` (pip install 'sluicegate[otel]'), or leave it empty"
            ]
        ) from None
    names = [tool.name for tool in tools]
    with closing(Telemetry(settings.telemetry, names, provider_names(settings.providers))) as telemetry:
        yield (LogLine(), telemetry)
