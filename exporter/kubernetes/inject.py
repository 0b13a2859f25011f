"""Streams of manifests: the sidecar into every workload, the Services before them sent to it; and all of it
undone.

Text in, text out, warnings to a callback; no file, no terminal. What is changed by neither keeps its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from exporter.kubernetes.errors import ManifestError, Warn, join
from exporter.kubernetes.manifest_stream import Document, read_stream
from exporter.kubernetes.pod import inject_pod, remove_pod
from exporter.kubernetes.podmonitor import made_by_us, pod_monitor
from exporter.kubernetes.ports import declared
from exporter.kubernetes.services import (
    InjectedPort,
    check_service,
    is_service,
    restore_service,
    rewrite_service,
    selects,
    warn_unseen,
)
from exporter.kubernetes.settings import Scrape, Settings, parse_annotations, settings_of
from exporter.kubernetes.workloads import Workload, annotation_places, workload_of
from exporter.kubernetes.yaml_values import block_yaml, dumped


@dataclass(frozen=True, slots=True)
class _Found:
    """One object of the input."""

    document: Document
    where: str
    siblings: list[Any] | None
    """The list it is an item of, if it is."""
    object: dict[str, Any]
    workload: Workload | None


def inject(inputs: Iterable[tuple[str, str]], settings: Settings, warn: Warn) -> str:
    """The inputs (name, text) as one stream with the sidecar in every workload.

    warn takes one sentence for each thing that needs a human. Raises ManifestError for bad input.
    """
    documents = _read(inputs)
    found = list(_objects(documents))
    workloads = [one for one in found if one.workload is not None]
    if not workloads:
        warn("there is no workload in the input: nothing to put a sidecar into")
    ports = [port for one in workloads for port in _inject_one(one, settings, warn)]
    services = [one for one in found if is_service(one.object)]
    for one in services:
        with _blame(one):
            if not any(selects(one.object, port.workload) for port in ports):
                continue
            restore_service(one.object)
            if check_service(one.object):
                rewrite_service(one.object, ports, _prefixed(warn, one.where))
    for one in workloads:
        for port in ports:
            if port.workload is one.workload:
                warn_unseen(port, (service.object for service in services), _prefixed(warn, one.where))
    here = {f"{one.object['kind']}/{one.workload.name}" for one in workloads if one.workload}
    _set_monitors(documents, found, _wanted_monitors(workloads, settings), here)
    return _write(documents, warn)


def remove(inputs: Iterable[tuple[str, str]], warn: Warn) -> str:
    """The inputs (name, text) as one stream without the sidecar. Raises ManifestError for bad input."""
    documents = _read(inputs)
    found = list(_objects(documents))
    removed = False
    for one in found:
        with _blame(one):
            if one.workload is not None:
                removed |= remove_pod(one.workload.template, one.workload.path)
            elif is_service(one.object):
                removed |= restore_service(one.object)
    if not removed:
        warn("no sidecar put in by inject is in the input: nothing to remove")
    _set_monitors(documents, found, {}, None)
    return _write(documents, warn)


def _read(inputs: Iterable[tuple[str, str]]) -> list[Document]:
    documents: list[Document] = []
    for name, text in inputs:
        more = read_stream(text, name)
        if documents and more:
            _join_files(documents[-1], more[0])
        documents += more
    return documents


def _join_files(last: Document, first: Document) -> None:
    """See to it that the next file begins a document of its own."""
    if last.text and not last.text.endswith("\n"):
        first.before = "\n" + first.before
    if not first.before.lstrip().startswith("---"):
        first.before += "---\n"


def _objects(documents: Iterable[Document]) -> Iterator[_Found]:
    for document in documents:
        for where, siblings, obj in document.objects():
            with _blame_at(where):
                workload = workload_of(obj)
            yield _Found(document, where, siblings, obj, workload)


@contextmanager
def _blame_at(where: str) -> Iterator[None]:
    """Fill in the document of a ManifestError that passes."""
    try:
        yield
    except ManifestError as error:
        error.where = error.where or where
        raise


def _blame(one: _Found) -> Any:
    return _blame_at(one.where)


def _prefixed(warn: Warn, where: str) -> Warn:
    return lambda text: warn(f"{where}: {text}")


def _annotations_of(workload: Workload) -> dict[str, str]:
    """What the annotations of a workload and of its pod template say; the template wins."""
    texts: dict[str, str] = {}
    for place, path in annotation_places(workload):
        texts.update(parse_annotations(place, path))
    return texts


def _inject_one(one: _Found, settings: Settings, warn: Warn) -> list[InjectedPort]:
    """Inject one workload; what Services must know of it."""
    workload = one.workload
    assert workload is not None
    with _blame(one):
        texts = _annotations_of(workload)
        _ = workload.labels  # raises if they are malformed
        remove_pod(workload.template, workload.path)
        if texts.get("inject") == "false":
            ports = declared(workload.template["spec"], join(workload.path, "spec"))
            return [InjectedPort(workload, port.number, port.name, None) for port in ports]
        own = settings_of(settings, texts, join(workload.path, "metadata.annotations"))
        port = inject_pod(workload.template, workload.path, own, _prefixed(warn, one.where))
        if workload.is_batch and not own.runs_native:
            warn(f"{one.where}: a classic sidecar does not end by itself and keeps the {workload.kind} from completing")
        return [InjectedPort(workload, port.number, port.name, own.listen_port)]


def _wanted_monitors(workloads: Iterable[_Found], settings: Settings) -> dict[str, tuple[_Found, dict[str, Any]]]:
    wanted = {}
    for one in workloads:
        with _blame(one):
            assert one.workload is not None
            texts = _annotations_of(one.workload)
            own = settings_of(settings, texts, "")
            if texts.get("inject") != "false" and own.scrape is Scrape.PODMONITOR:
                monitor = pod_monitor(one.workload)
                wanted[_identity(monitor)] = (one, monitor)
    return wanted


def _identity(monitor: dict[str, Any]) -> str:
    return f"{monitor['metadata'].get('namespace', '')}/{monitor['metadata']['name']}"


def _set_monitors(
    documents: list[Document],
    found: Iterable[_Found],
    wanted: dict[str, tuple[_Found, dict[str, Any]]],
    here: set[str] | None,
) -> None:
    """Bring the PodMonitors of ours in the stream to what is wanted: kept, replaced, dropped, added.

    here: the workloads (`Deployment/chat`) whose unwanted PodMonitors go; None: those of all.
    """
    missing = dict(wanted)
    for one in found:
        made_for = made_by_us(one.object)
        if made_for is None:
            continue
        kept = missing.pop(_identity(one.object), None)
        if kept is not None:
            one.object.clear()
            one.object.update(kept[1])
        elif here is not None and made_for not in here:
            continue
        elif one.siblings is None:
            documents.remove(one.document)
        else:
            one.siblings[:] = [item for item in one.siblings if item is not one.object]
    for one, monitor in missing.values():
        if one.siblings is None:
            _append(documents, one.document, monitor)
        else:
            one.siblings.append(monitor)


def _append(documents: list[Document], beside: Document, monitor: dict[str, Any]) -> None:
    """A new document at the end of the stream, in the format of the one it stands beside."""
    if beside.is_json:
        text = dumped(monitor, is_json=True).rstrip("\n")
        tail = documents.pop() if not documents[-1].text else None
        documents.append(Document("\n", text, monitor, True, beside.source, len(documents) + 1))
        documents += [tail] if tail else []
        return
    ends = (documents[-1].text or documents[-1].before).endswith("\n")
    before = "---\n" if ends else "\n---\n"
    documents.append(Document(before, block_yaml(monitor, 0), monitor, False, beside.source, len(documents) + 1))


def _write(documents: Iterable[Document], warn: Warn) -> str:
    parts = []
    for document in documents:
        text, anew = document.render()
        if anew:
            warn(
                f"{document.source}: document {document.number} is written anew, without its comments: "
                "it has a layout (aliases, tags) that cannot be edited in place"
            )
        parts += [document.before, text]
    return "".join(parts)
