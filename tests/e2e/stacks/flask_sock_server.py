"""Flask-Sock, under werkzeug (PORT) or gunicorn (`gunicorn flask_sock_server:app`)."""

from __future__ import annotations

import sys

from flask import Flask
from flask_sock import Sock
from simple_websocket import Server

app = Flask(__name__)
app.config["SOCK_SERVER_OPTIONS"] = {"max_message_size": 65536}
sock = Sock(app)


@sock.route("/")
def echo(ws: Server) -> None:
    """Echo until the client leaves."""
    while (message := ws.receive()) != "return":
        if message == "raise":
            raise RuntimeError("told to")
        ws.send(message)


if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]))
