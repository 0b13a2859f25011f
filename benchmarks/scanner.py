"""Nanoseconds a byte and a frame of the scanner on the densest chunks that a peer can send.

    python -m benchmarks.scanner

measures the modules that are imported: run it in build/compiled (``make compiled``) for those of the image. The last
column is the longest single call, which an event-loop turn has to wait for. CPU times, the best of several rounds.
"""

from __future__ import annotations

from time import thread_time_ns

from exporter.protocol import frames
from exporter.protocol.direction import new_frame_counts
from exporter.protocol.enums import Peer
from exporter.protocol.flight_recorder import Ring
from exporter.protocol.frames import FrameScanner
from exporter.protocol.payload_sample import SamplingFrameScanner

CHUNK = 512 * 1024
ROUNDS = 5


def _with(first: int, size: int = 0, masked: bool = False) -> bytes:
    length = bytes((size | 0x80 * masked,)) if size < 126 else bytes((126 | 0x80 * masked,)) + size.to_bytes(2, "big")
    return bytes((first,)) + length + bytes(4 * masked + size)


PATTERNS = {
    "text, empty": _with(0x81),
    "text, empty, masked": _with(0x81, masked=True),
    "text, 32 bytes": _with(0x81, 32),
    "text, 128 bytes, masked": _with(0x81, 128, masked=True),
    "ping, empty": _with(0x89),
    "ping, empty, masked": _with(0x89, masked=True),
    "ping, 125 bytes, masked": _with(0x89, 125, masked=True),
    "continuation, empty": _with(0x00),
    "reserved 3": _with(0x83),
    "reserved 11": _with(0x8B),
    "text and ping": _with(0x81) + _with(0x89),
    "text and binary": _with(0x81) + _with(0x82),
    "16 texts and a ping": _with(0x81) * 16 + _with(0x89),
    "40 texts and a ping": _with(0x81) * 40 + _with(0x89),
    "text in 64 bits": b"\x81\x7f" + bytes(8),
}


def measure(scanner: FrameScanner, data: bytes) -> tuple[int, int]:
    """Return the nanoseconds of all calls that parse ``data``, and of the longest."""
    total = longest = 0
    begun = thread_time_ns()
    scanner.feed(data, 1.0)
    while True:
        taken = thread_time_ns() - begun
        total, longest = total + taken, max(longest, taken)
        if not getattr(scanner, "backlog", b""):
            return total, longest
        begun = thread_time_ns()
        scanner.resume(1.0)


def best(kind: str, data: bytes) -> tuple[int, int, int]:
    """Return the best of several rounds for one class of scanner, and its frames."""
    results = []
    for _ in range(ROUNDS):
        match kind:
            case "sampling":
                scanner: FrameScanner = SamplingFrameScanner(new_frame_counts(), Peer.CLIENT, Ring(), 256)
            case "heartbeats":
                scanner = FrameScanner(new_frame_counts(), heartbeats=True)
            case _:
                scanner = FrameScanner(new_frame_counts())
        results.append(measure(scanner, data))
    return min(total for total, _ in results), min(longest for _, longest in results), scanner.frames


def main() -> None:
    """Measure every pattern with every class of scanner."""
    print(f"{'compiled' if frames.__file__.endswith('.so') else 'source'}, chunks of {CHUNK // 1024} KiB")
    print(f"{'':28}{'':12}{'ns/byte':>10}{'ns/frame':>10}{'longest call, ms':>18}")
    for name, unit in PATTERNS.items():
        data = unit * (CHUNK // len(unit))
        for kind in ("plain", "heartbeats", "sampling"):
            total, longest, count = best(kind, data)
            print(f"{name:28}{kind:12}{total / len(data):10.1f}{total / count:10.0f}{longest / 1e6:18.2f}")


if __name__ == "__main__":
    main()
