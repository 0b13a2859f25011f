"""The demo with the real sidecar: what visitors saw is what it counted."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections import Counter
from pathlib import Path

from exporter.demo import tally
from exporter.demo.tally import FrameCounts
from tests.ports import free_port
from tests.waiting import eventually

from .helpers import running

#: Labels of the sidecar -> how a visitor calls it, where they differ.
AS_SEEN = {"4xxx client": "4001 client"}
#: Visits in which both peers may have ended at the same moment, of some hundred.
CROSSINGS = 2


def look(admin: int) -> FrameCounts:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as answer:
        return tally.read(answer.read().decode())


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_what_visitors_saw_is_what_the_sidecar_counted(tmp_path: Path) -> None:
    """Each visit is counted once, with the code and the initiator that the visitor saw, bugs of both kinds included.

    Two peers that end at the same moment each see their own end first, so a few of the visits may be told differently.
    """
    app_port, listen, admin = free_port(), free_port(), free_port()
    app = ("-m", "exporter.demo.app", "--port", str(app_port), "--bug-rate", "0.05")
    sidecar = ("-m", "exporter", "run", "--upstream", f"127.0.0.1:{app_port}")
    sidecar += ("--listen", f"127.0.0.1:{listen}", "--admin", f"127.0.0.1:{admin}", "--drain-linger", "0")
    url = f"ws://127.0.0.1:{listen}/chat"
    traffic = ("-m", "exporter.demo.traffic", "--url", url, "--clients", "10", "--rate", "5", "--stay", "1")
    with running(tmp_path / "app", *app), running(tmp_path / "sidecar", *sidecar):
        eventually(lambda: answers(f"http://127.0.0.1:{admin}/readyz"), "the sidecar is ready")
        with running(tmp_path / "traffic", *traffic) as visitors:
            eventually(lambda: ended(look(admin))["1011 server"], "a bug that raises")
            assert answers(f"http://127.0.0.1:{listen}/bug?kind=drops")
            eventually(lambda: ended(look(admin))["1006 server"], "a bug that drops")
            visitors.send(signal.SIGTERM)
            assert visitors.status() == 0
            seen = json.loads(visitors.output)
        eventually(lambda: look(admin).active == 0, "all sessions have ended")
        counted = look(admin)
    assert counted.closed.total() == seen["visits"]
    crossed = ended(counted) - Counter(seen["endings"])
    assert crossed.total() <= CROSSINGS, (crossed, seen["endings"])
    assert seen["failures"] == {}
    assert not counted.refused.total()


def ended(counted: FrameCounts) -> Counter[str]:
    """Endings by code and initiator, in the visitors' words."""
    by_code: Counter[str] = Counter()
    for ending, count in counted.closed.items():
        name = f"{ending.code} {ending.initiator}"
        by_code[AS_SEEN.get(name, name)] += count
    return +by_code


def test_the_command_itself(tmp_path: Path) -> None:
    """`demo` runs app, sidecar and visitors, tells of their endings in a table, and ends by itself with status 0."""
    addresses = ("--listen", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}")
    command = ("-m", "exporter", "demo", *addresses, "--for", "8s", "--restart-every", "3s")
    with running(tmp_path / "out", *command) as demo:
        assert demo.status() == 0
        assert "the app restarts; it says 1001 to everybody" in demo.output
        assert "server closed" in demo.output
        words = [line.split() for line in demo.output.splitlines()]
        assert ["1001", "going-away", "server"] in [line[:3] for line in words]
        assert ["1001", "going-away", "client"] in [line[:3] for line in words]
        assert "Traceback" not in demo.output
