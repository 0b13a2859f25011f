"""A supervisor with children that only talk: ``python -m tests.integration.supervised WORKERS``.

Each child writes a JSON line for what it gets: a start, a control message, a record. A relay that gets
``{"do": "drain"}`` ends with status 0 if it is to exit; the observer ends when it is to finish.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from functools import partial

from exporter.protocol.counters import ObserverLayout, RelayLayout, SharedCells
from exporter.supervisor import Supervisor, catch_signals


def say(**fields: object) -> None:
    os.write(1, (json.dumps(fields) + "\n").encode())


def relay(number: int, slot: int, records: socket.socket, control: socket.socket) -> int:
    say(event="start", who=f"relay-{number}", pid=os.getpid(), slot=slot)
    records.send(f"record of slot {slot}".encode())
    while data := control.recv(4096):
        message = json.loads(data)
        say(event="message", who=f"relay-{number}", **message)
        if message["do"] == "stop" or message.get("exit"):
            return 0
    return 0


def observer(records: dict[int, socket.socket], control: socket.socket, first: bool) -> int:
    say(event="start", who="observer", pid=os.getpid(), first=first, slots=sorted(records))
    open_records = {sock.fileno(): (slot, sock) for slot, sock in records.items()}
    while True:
        for fd in select.select([control.fileno(), *open_records], [], [])[0]:
            if fd == control.fileno():
                data, fds, _, _ = socket.recv_fds(control, 4096, 1)
                if not data:
                    return 0
                message = json.loads(data)
                say(event="message", who="observer", **message)
                if message["do"] in ("finish", "stop"):
                    return 0
                if message["do"] == "relay":
                    sock = socket.socket(fileno=fds[0])
                    open_records[sock.fileno()] = (message["slot"], sock)
                continue
            slot, sock = open_records[fd]
            data = sock.recv(4096)
            if data:
                say(event="record", slot=slot, text=data.decode())
            else:
                del open_records[fd]
                sock.close()
                control.send(json.dumps({"do": "settled", "slot": slot}).encode())
                say(event="settled", slot=slot)


def main() -> int:
    workers = int(sys.argv[1])
    layouts = RelayLayout(1), ObserverLayout(1, ["1006"])
    cells = SharedCells(memoryview(bytearray(8 * SharedCells.size(*layouts, workers))).cast("q"), *layouts, workers)
    status = Supervisor(workers, partial(partial, relay), observer, cells, catch_signals()).run()
    say(event="end", status=status, restarts=cells.observer[layouts[1].relay_restarts])
    return status


if __name__ == "__main__":
    sys.exit(main())
