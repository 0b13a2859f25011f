"""websockets on threads, SIGTERM -> server.shutdown(). PORT [--keepalive SECONDS]"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from websockets.sync.server import ServerConnection, serve


def echo(websocket: ServerConnection) -> None:
    """Echo until the client leaves."""
    try:
        for message in websocket:
            if message == "raise":
                raise RuntimeError("told to")
            if message == "return":
                break
            if message == "close":
                websocket.close(4001, "done")
            else:
                websocket.send(message)
    finally:
        # In one piece: print() writes its arguments one by one, and another thread's may come in between.
        sys.stdout.write(f"saw {websocket.close_code} {websocket.close_reason}\n")
        sys.stdout.flush()


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--keepalive", type=float, default=None)
options = parser.parse_args()
with serve(echo, "127.0.0.1", options.port, ping_interval=options.keepalive, ping_timeout=options.keepalive) as server:
    # shutdown() waits for the handlers, and a signal handler runs inside serve_forever(): hence a thread.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
