"""Which models a caller may ask for."""

import msgspec

from ..providers.models import Models
from .access import Grants


class ModelInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model. `max_output_tokens` is the most that a reply may have there."""

    name: str
    max_output_tokens: int | None = None


class ModelList(msgspec.Struct, frozen=True):
    """The models that a caller may ask for. `default` is the one of requests that name none, "" if it is not among
    them.
    """

    models: list[ModelInfo]
    default: str


def catalog(models: Models, grants: Grants) -> ModelList:
    """Return what the holder of `grants` may ask for. Where any name may be asked for, those that are known by name."""
    known = models.names if grants.models is None or models.is_closed else tuple(grants.models)
    allowed = [name for name in known if grants.models is None or name in grants.models]
    infos = [ModelInfo(name, models.resolve(name).max_output_tokens) for name in allowed]
    default = models.default_for(grants.models)
    return ModelList(infos, default if default in allowed else "")
