"""`sluicegate deploy grafana`: a dashboard for the metrics of `/metrics`, to be imported into Grafana."""

import json
from typing import Any, Final, TypeAlias

from .panels import ROWS, VARIABLES, Panel

Json: TypeAlias = dict[str, Any]

_SOURCE: Final[Json] = {"type": "prometheus", "uid": "$datasource"}
_COLUMNS: Final = 24  # of Grafana's grid
_HEIGHT: Final = 8


def grafana() -> str:
    """Return the dashboard as JSON."""
    panels: list[Json] = []
    top = 0
    for title, row in ROWS:
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": _place(0, top, _COLUMNS, 1)})
        top += 1
        lines = -(-len(row) // 4)
        columns = -(-len(row) // lines)
        for number, panel in enumerate(row):
            line, column = divmod(number, columns)
            width = _COLUMNS // columns
            panels.append(_panel(panel, _place(column * width, top + line * _HEIGHT, width, _HEIGHT)))
        top += lines * _HEIGHT
    dashboard = {
        "uid": "sluicegate",
        "title": "sluicegate",
        "tags": ["sluicegate"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource(), *(_variable(name, query) for name, query in VARIABLES.items())]},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }
    return json.dumps(dashboard, indent=2) + "\n"


def _place(x: int, y: int, width: int, height: int) -> Json:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, place: Json) -> Json:
    targets = [
        {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": query.text, "legendFormat": query.legend}
        for number, query in enumerate(panel.queries)
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"tooltip": {"mode": "multi"}, "legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": targets,
    }


def _datasource() -> Json:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _variable(name: str, query: str) -> Json:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # whenever the time range changes
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }
