"""The Starlette application's echo in FastAPI."""

from __future__ import annotations

from asgi_starlette import echo
from fastapi import FastAPI

app = FastAPI()
app.add_api_websocket_route("/", echo)
