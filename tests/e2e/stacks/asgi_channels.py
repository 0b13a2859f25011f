"""A Django Channels application: echoes, raises and closes when told to. Runs under uvicorn and daphne."""

from __future__ import annotations

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path

settings.configure(SECRET_KEY="for tests only", ALLOWED_HOSTS=["*"], USE_TZ=True)
django.setup()


class Echo(AsyncWebsocketConsumer):
    """One per connection; the base class accepts."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Echo one message."""
        if text_data == "raise":
            raise RuntimeError("told to")
        if text_data == "close":
            await self.close(code=4001, reason="done")
        else:
            await self.send(text_data=text_data, bytes_data=bytes_data)

    async def disconnect(self, code: int) -> None:
        """Say what was seen."""
        print("saw", code, flush=True)


app = ProtocolTypeRouter({"websocket": URLRouter([path("", Echo.as_asgi())])})
