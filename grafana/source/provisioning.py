"""Files that a Grafana container reads at its start: the data source, and the folder of the dashboards.

Mounted at ``/etc/grafana/provisioning``, with the dashboards at :data:`DASHBOARDS`.
"""

from __future__ import annotations

from io import StringIO
from typing import Any

from ruamel.yaml import YAML

from grafana.source.config import Config

HEAD = "# Made by `python -m grafana.source`; change grafana/source/, not this file.\n"

#: Folder of the JSON files inside Grafana's container.
DASHBOARDS = "/etc/grafana/dashboards"


def files(config: Config) -> dict[str, str]:
    """Return the files: path below the repository -> text."""
    return {
        "grafana/provisioning/datasources/prometheus.yaml": _yaml(_datasource(config)),
        "grafana/provisioning/dashboards/websocket.yaml": _yaml(_provider(config)),
    }


def _datasource(config: Config) -> dict[str, Any]:
    trace = {
        "name": "trace_id",  # the exemplar's label
        "url": config.trace_url + "$${__value.raw}",  # $$: Grafana would take $ for a variable of the environment
        "urlDisplayLabel": "Open this trace",
    }
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus",
                "type": "prometheus",
                "uid": config.datasource,
                "access": "proxy",
                "url": config.prometheus_url,
                "isDefault": True,
                "editable": True,
                "jsonData": {
                    "httpMethod": "POST",
                    "timeInterval": config.scrape_interval,
                    "exemplarTraceIdDestinations": [trace],
                },
            }
        ],
    }


def _provider(config: Config) -> dict[str, Any]:
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "websocket-exporter",
                "type": "file",
                "folder": config.folder,
                "disableDeletion": False,
                "allowUiUpdates": True,
                "options": {"path": DASHBOARDS},
            }
        ],
    }


def _yaml(value: dict[str, Any]) -> str:
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = StringIO()
    yaml.dump(value, text)
    return HEAD + text.getvalue()
