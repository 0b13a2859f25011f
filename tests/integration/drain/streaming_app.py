"""An app that streams fragmented messages at whoever connects, each frame in two pieces, and ignores SIGTERM.

Run as ``python streaming_app.py PORT``. Each connection gets one endless message: a text frame without FIN, then
continuation frames, one every :data:`PERIOD` seconds. It answers a client's Close and ends TCP, as RFC 6455, section
7.1.1 asks of a server, and prints a line for each connection that ended: how it was closed.
"""

import asyncio
import base64
import hashlib
import signal
import sys

import uvloop

PERIOD = 0.4
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
PAYLOAD = b"x" * 100


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    key = next(line[18:].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key.strip(b": ") + GUID).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    streaming = asyncio.create_task(stream(writer))
    try:
        first = await reader.readexactly(2)
        assert first[0] == 0x88, first
        await reader.readexactly(4 + (first[1] & 0x7F))
        streaming.cancel()
        print("close", flush=True)
        writer.write(b"\x88\x02\x03\xe9")
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        print("drop", flush=True)
    finally:
        streaming.cancel()
        writer.close()


async def stream(writer: asyncio.StreamWriter) -> None:
    first = 0x01
    while True:
        frame = bytes((first, len(PAYLOAD))) + PAYLOAD
        first = 0x00
        writer.write(frame[:37])
        await asyncio.sleep(PERIOD / 2)
        writer.write(frame[37:])
        await writer.drain()
        await asyncio.sleep(PERIOD / 2)


async def main() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    server = await asyncio.start_server(serve_one, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()


uvloop.run(main())
