"""Reading /metrics the way Prometheus does, and asking it exact questions."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

Ending = tuple[str, str, str]
"""code, cause, initiator"""

Series = tuple[str, frozenset[tuple[str, str]]]

CLOSED = "websocket_connections_closed_total"
ACTIVE = "websocket_connections_active"
HANDSHAKES = "websocket_handshakes_total"
CONNECT_ERRORS = "websocket_upstream_connect_errors_total"


class Scrape:
    """The samples of one scrape, or the difference of two."""

    def __init__(self, samples: Mapping[Series, float]) -> None:
        """Take samples by name and labels."""
        self._samples = dict(samples)
        self._names = {name for name, _ in samples}

    @classmethod
    def parse(cls, text: str) -> Scrape:
        """Read the text exposition format; ValueError if it is not that, or if a series comes twice."""
        samples: dict[Series, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                series = (sample.name, frozenset(sample.labels.items()))
                if series in samples:
                    raise ValueError(f"twice in one scrape: {series}")
                samples[series] = sample.value
        return cls(samples)

    def since(self, before: Scrape) -> Scrape:
        """What has been added since an earlier scrape (gauges too: subtract with care)."""
        earlier = before._samples
        return Scrape({series: value - earlier.get(series, 0.0) for series, value in self._samples.items()})

    def has(self, name: str, **labels: str) -> bool:
        """Tell whether there is a series with this name and at least these labels, zero or not."""
        wanted = set(labels.items())
        return any(name == its and wanted <= pairs for its, pairs in self._samples)

    def value(self, name: str, **labels: str) -> float:
        """The sum over the series with this name and at least these labels; the name must exist."""
        assert name in self._names, f"no metric {name}; there are {sorted(self._names)}"
        wanted = set(labels.items())
        return sum(value for (its, pairs), value in self._samples.items() if its == name and wanted <= pairs)

    def nonzero(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Every series of this name that is not 0, by its sorted labels; what is absent did not happen."""
        assert name in self._names, f"no metric {name}; there are {sorted(self._names)}"
        return {tuple(sorted(pairs)): value for (its, pairs), value in self._samples.items() if its == name and value}

    def closed(self, **labels: str) -> float:
        """Endings with these labels."""
        return self.value(CLOSED, **labels)

    def endings(self) -> dict[Ending, float]:
        """Every ending that was counted, over all routes, and nothing else: presence and absence at once."""
        counted: dict[Ending, float] = {}
        for (name, pairs), value in self._samples.items():
            if name == CLOSED and value:
                labels = dict(pairs)
                ending = (labels["code"], labels["cause"], labels["initiator"])
                counted[ending] = counted.get(ending, 0.0) + value
        return counted

    def by(self, name: str, label: str) -> dict[str, float]:
        """The nonzero values of one metric, summed by one label."""
        assert name in self._names, f"no metric {name}; there are {sorted(self._names)}"
        counted: dict[str, float] = {}
        for (its, pairs), value in self._samples.items():
            if its == name and value:
                key = dict(pairs)[label]
                counted[key] = counted.get(key, 0.0) + value
        return counted
