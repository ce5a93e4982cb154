"""Who may use the service, as the settings say."""

from ipaddress import ip_address

from ..service.access import Access, Everybody
from ..service.key_file import KeyRing
from ..settings import BadSettings, Settings


def access_of(settings: Settings) -> Access:
    """Return who says who may use the service. Raises BadSettings where nobody would on an address of the network, and
    KeyFileError.
    """
    keys, issuers = settings.access.keys, settings.access.issuers
    if issuers:
        from ..service.guard import Guard  # with the libraries of tokens and cryptography, which most do not need
        from ..service.tokens import Tokens

        tokens = Tokens(issuers)
        return Guard(KeyRing(keys), tokens) if keys is not None else tokens
    if keys is not None:
        return KeyRing(keys)
    if settings.access.open or _is_loopback(settings.server.host):
        return Everybody()
    raise BadSettings(
        [
            f"server.host: {settings.server.host} can be reached over the network, and nobody has to say who they are; "
            "name a file of keys in access.keys (`sluicegate keys create` makes it) or an issuer of tokens in "
            "access.issuers, or let everybody in with access.open=true"
        ]
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False  # a name, which may mean any address
