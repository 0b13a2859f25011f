"""The program. `run` reads its command line in a child that ends: the library that reads it takes 2 MB.

child: click ─► Settings ──pipe──► this process, which imports relay and observer meanwhile ─► supervisor
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from exporter.config import Settings

#: Arguments of `run` that end it before it serves.
_BRIEF = {"-h", "--help", "--check"}


def main() -> None:
    """Run the command that the arguments name."""
    if sys.argv[1:2] == ["run"] and _BRIEF.isdisjoint(sys.argv):
        _run()
    from exporter.cli import main as run_command

    run_command()


def _run() -> NoReturn:
    reader, writer = os.pipe()
    child = os.fork()
    try:
        if child == 0:
            os.close(reader)
            _send_settings(writer)
        os.close(writer)
        from exporter import supervisor

        with open(reader, "rb") as pipe:
            sent = pipe.read()
        _, status = os.waitpid(child, 0)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(supervisor.run(pickle.loads(sent)) if sent else os.waitstatus_to_exitcode(status))


def _send_settings(writer: int) -> NoReturn:
    """Read the command line, send the settings, or say why there are none, and exit."""
    from exporter.cli import main as run_command

    def send(settings: Settings) -> int:
        with open(writer, "wb") as pipe:
            pickle.dump(settings, pipe)
        return 0

    run_command(send)


if __name__ == "__main__":
    main()
