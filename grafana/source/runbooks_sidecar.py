"""The runbooks of alerts that are about the sidecar itself."""

from __future__ import annotations

from exporter.observe import catalogue
from grafana.source.config import Config
from grafana.source.promql import (
    CPU,
    JOB,
    MAX_FDS,
    OPEN_FDS,
    POD,
    RESIDENT,
    UP,
    duration,
    increase,
    metric,
    on,
    over,
    rate,
    sum_by,
)
from grafana.source.runbook import Runbook, Step


def unobserved(config: Config) -> Runbook:
    return Runbook(
        "WebSocketUnobservedTraffic",
        (
            "Connections are passed on, but the sidecar does not understand them; the label `reason` says why: `tls` "
            "and `http2` as a protocol from the first byte, `http1` for what is neither, `head-too-large`, `upgrade` "
            "for another protocol than WebSocket, `frame` for frames that break RFC 6455 so that they cannot be "
            "followed, `internal` for a defect of the sidecar.",
        ),
        "None for users: the traffic flows. But these connections' endings are not judged, so every other alert is "
        "blind to them.",
        (
            Step(
                "How many, why, where?", f"{sum_by((*POD, 'reason'), increase(metric(catalogue.UNOBSERVED), 600))} > 0"
            ),
            Step("Against how many handshakes?", sum_by(JOB, increase(metric(catalogue.HANDSHAKES), 600))),
            Step("Which version of the sidecar?", f"count by (namespace, job, version) ({metric(catalogue.BUILD)})"),
        ),
        (
            "`tls`: end it before the sidecar, or let the sidecar do so (`--tls-cert`, `--tls-key`). `http2`: turn it "
            "into HTTP/1.1 before the sidecar.",
            "`http1`, `upgrade`: what else speaks to this port? `why` in the log line helps. If it belongs there, give "
            "it a port past the sidecar.",
            "`head-too-large`: a cookie or token has grown; raise `--max-head`.",
            "`frame`: a client or server sends what is not WebSocket; the path and the client are in the line "
            "`session.closed` with the same `session_id`.",
            "`internal`: please report it, with the log line.",
        ),
        (
            "The log line `session.unobserved` says `reason` and `why`; if a session had begun, its `session_id` and "
            "`route` too.",
        ),
    )


def down(config: Config) -> Runbook:
    build, up = metric(catalogue.BUILD), metric(UP)
    known = f"last_over_time({over(build, config.memory)})"
    return Runbook(
        "WebSocketSidecarDown",
        (
            "`critical`: no sidecar of the job answers Prometheus, or the whole job is gone, "
            f"{duration(config.down_for)} long. `warning`: some do not answer, others do.",
            "A sidecar counts that answered once, is still discovered and no longer does. A pod that a rollout took "
            "away is not discovered any more; one that was draining when last seen is left alone for "
            f"{duration(config.stopped)}. A job that was removed on purpose is missed for {duration(config.gone)}; "
            "silence it.",
        ),
        "All traffic of the pod passes through its sidecar: if that is dead, clients cannot connect. If only the "
        "admin port is out of reach, they can, and nothing is counted.",
        (
            Step("Which targets?", f"{up} == 0 and {on(POD)} {known}"),
            Step(
                "Which were there within the hour and are no longer?",
                f"last_over_time({over(build, config.gone)}) unless {on(POD)} {build}",
            ),
            Step("When did they last answer?", f"max_over_time(timestamp({build})[{duration(config.gone)}:1m])"),
        ),
        (
            "`kubectl get pods`, `kubectl describe pod`: is the sidecar's container running, restarting, killed for "
            "memory?",
            "`kubectl logs -c websocket-exporter --previous`: a wrong setting stops the start with one line that "
            "names it.",
            "Is the admin port reachable from Prometheus (network policy, `--admin`)? `/livez` answers if the process "
            "lives.",
            "Whole job gone: is the workload there? Did the job's name change (`app.kubernetes.io/name`), or the "
            "monitor?",
        ),
    )


def saturated(config: Config) -> Runbook:
    known = f"and {on(POD)} {metric(catalogue.BUILD)}"
    return Runbook(
        "WebSocketSidecarSaturated",
        (
            f"A sidecar comes to its limits; the label `resource` says which: `cpu` (above {config.cpu * 100:g} % of "
            f"a core, and it has but one thread), `descriptors` (above {config.descriptors * 100:g} % of the limit on "
            "open files), `connections` (it lacked descriptors, memory or ports to connect to the app).",
        ),
        "Messages are delayed, or new clients turned away. Sessions that are open stay open.",
        (
            Step("CPU, by pod.", f"topk(10, {rate(metric(CPU), 300)} {known})"),
            Step("Open files, of the limit.", f"topk(10, {metric(OPEN_FDS)} / {metric(MAX_FDS)} {known})"),
            Step("Memory.", f"topk(10, {metric(RESIDENT)} {known})"),
            Step("Sessions, by pod.", f"topk(10, {sum_by(POD, metric(catalogue.ACTIVE))})"),
            Step("Frames a second, by pod.", f"topk(10, {sum_by(POD, rate(metric(catalogue.FRAMES), 300))})"),
            Step(
                "Failed connects.", f"{sum_by((*POD, 'reason'), increase(metric(catalogue.CONNECT_ERRORS), 600))} > 0"
            ),
        ),
        (
            "Add pods: sessions spread as clients come back.",
            "`cpu`: is the container throttled by a CPU limit? Give it a whole core.",
            "`descriptors`: raise the limit (`ulimit -n`); a session needs two. `--max-connections` turns clients "
            "away before the limit does.",
        ),
    )
