"""`sluicegate deploy nginx | systemd`: configuration for what stands around the service, its timeouts taken from the
settings, since the two must agree: a proxy that gives up first cuts streams off. `deploy grafana` and
`deploy prometheus` depend on none.
"""

import argparse
import math
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..settings import BadSettings, Settings
from .dashboard import grafana
from .rules import rules
from .settings import add_settings, config_of, settings_of

SILENCES = 4  # of heartbeats that a proxy waits for
STOP_SPARE = 5.0  # seconds until systemd kills what should be out 2 s after the drain
MORE_FILES = 1024  # beside connections and upstreams: spool, keys, tools

_NGINX: Final = """\
upstream sluicegate {{
    server {address};
    keepalive 64;
    keepalive_timeout {idle}s;
}}

server {{
    listen 80;
    server_name _;
    # As much as the service takes: one that is refused half-way breaks off, and the client would see a 502.
    client_max_body_size {body};

    location / {{
        proxy_pass {scheme}://sluicegate;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        # Whose request it is; believed where service.trusted_proxies has the address that nginx asks from.
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        # Every token at once, none held back until a buffer is full.
        proxy_buffering off;
        proxy_cache off;
        gzip off;
        # Longer than the longest silence: a heartbeat comes after {silence:g} s.
        proxy_read_timeout {read}s;
        proxy_send_timeout {send}s;
        # Who leaves ends the run. A POST that was sent is never sent again: an answer costs money.
        proxy_ignore_client_abort off;
        proxy_next_upstream error;
    }}
}}
"""
_SYSTEMD: Final = """\
# Once, as root: useradd --system sluicegate; give it the file of keys (chown sluicegate) and, with a spool, its
# directory (install -d -o sluicegate). Then: systemctl daemon-reload && systemctl enable --now sluicegate
[Unit]
Description=sluicegate, a service that streams LLM replies
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User=sluicegate
WorkingDirectory={folder}
# The keys of the providers: OPENAI_API_KEY=..., ANTHROPIC_API_KEY=...
EnvironmentFile=-/etc/sluicegate/environment
ExecStart={command}
Restart=on-failure
# Settings that cannot be used do not get better by another start.
RestartPreventExitStatus=2
# Streams under way get {drain:g} s to end.
KillMode=mixed
TimeoutStopSec={stop}
LimitNOFILE={files}
NoNewPrivileges=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes{writable}

[Install]
WantedBy=multi-user.target
"""


def add_deploy(parser: argparse.ArgumentParser) -> None:
    """Add the commands, those that depend on settings with all arguments that are such."""
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    for name, make, words in (
        ("nginx", nginx, "print a site for nginx, to be put into sites-enabled"),
        ("systemd", systemd, "print a unit for systemd, to be put into /etc/systemd/system"),
    ):
        command = commands.add_parser(name, help=words)
        add_settings(command)
        command.set_defaults(run=_printing(make))
    for name, fixed, words in (
        ("grafana", grafana, "print a dashboard for Grafana, to be imported there"),
        ("prometheus", rules, "print alerts for Prometheus, a file for its rule_files"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("--config", metavar="FILE", type=Path, help="the file of settings, which does not matter")
        command.set_defaults(run=_printing_only(fixed))


def nginx(settings: Settings, _config: Path | None) -> str:
    """Return a site for nginx in front of a service with these settings."""
    server, run = settings.server, settings.run
    silence = max(run.heartbeat_seconds, settings.service.hold_seconds)
    if silence == math.inf:  # no heartbeats: then the longest silence is that of the provider
        silence = max(run.first_delta_seconds, run.stall_seconds, settings.service.hold_seconds)
    return _NGINX.format(
        scheme="http" if server.certfile is None else "https",
        address=f"{_bracketed(server.host)}:{server.port}",
        idle=max(1, math.floor(min(60.0, server.keep_alive_seconds / 2))),
        body=max(1, settings.service.max_body_bytes),
        silence=silence,
        read=_seconds(silence * SILENCES),
        send=_seconds(max(60.0, server.write_seconds)),
    )


def systemd(settings: Settings, config: Path | None) -> str:
    """Return a unit for systemd that runs the service with the settings of `config`."""
    command = [str(Path(sys.argv[0]).absolute()), "serve", *(["--config", str(config.absolute())] if config else [])]
    folder = config.absolute().parent if config else Path.cwd()
    spool = settings.spool.directory if settings.spool is not None else None
    return _SYSTEMD.format(
        folder=folder,
        command=shlex.join(command),
        drain=settings.service.drain_seconds,
        stop=_seconds(settings.service.drain_seconds + STOP_SPARE),
        files=settings.server.max_connections + settings.upstream.max_upstreams + MORE_FILES,
        writable="" if spool is None else f"\nReadWritePaths={folder / spool}",
    )


def _printing_only(make: Callable[[], str]) -> Callable[[argparse.Namespace], int]:
    """Prints what `make` makes."""

    def run(_options: argparse.Namespace) -> int:
        print(make(), end="")
        return 0

    return run


def _printing(make: Callable[[Settings, Path | None], str]) -> Callable[[argparse.Namespace], int]:
    """Prints what `make` makes of the settings; 2 if these are bad."""

    def run(options: argparse.Namespace) -> int:
        try:
            print(make(settings_of(options), config_of(options)), end="")
        except BadSettings as error:
            for fault in error.faults:
                print(f"sluicegate deploy: {fault}", file=sys.stderr)
            return 2
        return 0

    return run


def _bracketed(host: str) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where it listens on all
    return f"[{reachable}]" if ":" in reachable else reachable


def _seconds(seconds: float) -> int:
    """Whole seconds; nginx and systemd know no infinity that both would take, so a day stands for it."""
    return math.ceil(min(seconds, 86_400.0))
