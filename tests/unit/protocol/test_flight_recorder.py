"""The flight recorder: the last frames as headers only."""

from exporter.protocol.direction import new_frame_counts
from exporter.protocol.enums import Peer
from exporter.protocol.flight_recorder import FRAMES, SLOT, Frame, Ring, unpack
from exporter.protocol.session import Session

SECRET = b"do not keep me"


def session() -> Session:
    return Session(new_frame_counts(), new_frame_counts())


def test_a_new_recorder_holds_no_frames():
    """Slots that were never written are not frames, not even at time zero."""
    assert unpack(Ring().in_order()) == []


def test_frames_of_both_peers_are_kept_in_the_order_in_which_they_passed():
    """Sender, opcode, FIN, length and time of each frame; a masked frame and a long one among them."""
    played = session()
    played.feed(Peer.CLIENT, b"\x81\x83abcd" + b"xyz", 0.0)
    played.feed(Peer.SERVER, b"\x02\x7e\x01\x00" + b"x" * 256, 1.5)
    played.feed(Peer.SERVER, b"\x80\x00\x89\x01p", 2.0)
    assert unpack(played.ring.in_order()) == [
        Frame(Peer.CLIENT, 1, True, 3, 0.0),
        Frame(Peer.SERVER, 2, False, 256, 1.5),
        Frame(Peer.SERVER, 0, True, 0, 2.0),
        Frame(Peer.SERVER, 9, True, 1, 2.0),
    ]


def test_only_the_last_frames_are_kept():
    """The ring forgets the oldest frames, however many came, in one chunk or in many."""
    for chunks in ([b"\x81\x00" * 150], [b"\x81\x00"] * 150):
        played = session()
        for number, chunk in enumerate(chunks):
            played.feed(Peer.SERVER, chunk, float(number))
        frames = unpack(played.ring.in_order())
        assert len(frames) == FRAMES
        assert [frame.at for frame in frames] == sorted(frame.at for frame in frames)


def test_frames_that_came_together_are_kept_as_if_they_had_come_alone():
    """Lengths, opcodes and order, wherever in the ring a run of frames begins and ends."""
    for run in (1, 2, 63, 64, 65, 130):
        together, alone = session(), session()
        for start in range(20):
            frames = [bytes((0x81 + (at + start) % 2, at % 100)) + bytes(at % 100) for at in range(run)]
            together.feed(Peer.CLIENT, b"".join(frames), float(start))
            for frame in frames:
                alone.feed(Peer.CLIENT, frame, float(start))
            assert unpack(together.ring.in_order()) == unpack(alone.ring.in_order())


def test_the_longest_length_there_is_can_be_kept():
    """A length of 2^63 - 1 fits, so that no peer can make the recorder fail."""
    played = session()
    played.feed(Peer.CLIENT, b"\x82\x7f" + (2**63 - 1).to_bytes(8, "big") + b"x", 1.0)
    assert unpack(played.ring.in_order()) == [Frame(Peer.CLIENT, 2, True, 2**63 - 1, 1.0)]


def test_no_payload_is_kept():
    """The ring grows to 4, 16 and 64 slots, no further, and no byte of a message is in it."""
    played = session()
    sizes = [len(played.ring.slots)]
    for _ in range(200):
        played.feed(Peer.SERVER, bytes((0x81, len(SECRET))) + SECRET, 1.0)
        sizes.append(len(played.ring.slots))
    assert sizes == [4 * SLOT] * 5 + [16 * SLOT] * 12 + [64 * SLOT] * 184
    assert SECRET[:4] not in bytes(played.ring.slots)
