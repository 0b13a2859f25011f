"""A Django Channels application: echoes text, and raises when told to. Runs under uvicorn and daphne."""

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
        await self.send(text_data=text_data)


app = ProtocolTypeRouter({"websocket": URLRouter([path("", Echo.as_asgi())])})
