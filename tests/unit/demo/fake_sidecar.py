"""Stands in for the sidecar: relays TCP and counts connections, all of them as one kind of ending.

Started as the sidecar is: ``--upstream HOST:PORT --listen HOST:PORT --admin HOST:PORT``, and more.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

open_now = ended = 0


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: str) -> None:
    global open_now, ended
    try:
        app_reader, app_writer = await asyncio.open_connection(host, port)
    except OSError:
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()
        return
    open_now += 1
    await asyncio.gather(pump(reader, app_writer), pump(app_reader, writer))
    open_now -= 1
    ended += 1


async def admin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    body = f"websocket_connections_active {open_now}\n".encode()
    body += b'websocket_connections_closed_total{code="fake",cause="fake",initiator="client"} %d\n' % ended
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    writer.close()


async def main() -> None:
    flags = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    places = {flag: flags[flag].split(":") for flag in ("--upstream", "--listen", "--admin")}
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await asyncio.start_server(lambda r, w: relay(r, w, *places["--upstream"]), *places["--listen"])
    await asyncio.start_server(admin, *places["--admin"])
    await stop.wait()


asyncio.run(main())
