"""The way to a model, for those who have one provider."""

from sluicegate.providers.base import Provider
from sluicegate.providers.gate import Gate
from sluicegate.providers.route import Candidate, Route


def route_to(provider: Provider, model: str) -> Route:
    """Return the way to one provider, asked once."""
    return Route(model, (Candidate(provider, Gate("only"), model),))
