"""Messages between relay and observer."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.protocol.messages import (
    FLUSH,
    FLUSHED,
    LEVELS,
    MAX_MESSAGE,
    MAX_NOTICE,
    MAX_OPENED,
    Kind,
    Notice,
    Opened,
    decode,
    encode_notice,
    encode_opened,
    encode_record,
    pack_opening,
)
from exporter.protocol.record import SessionRecord
from exporter.protocol.record_format import VERSION, pack
from tests.unit.protocol.test_record import RECORDS, largest

OPENED = st.builds(Opened, st.floats(allow_nan=False), st.integers(0, 65535), st.integers(0, 2**64 - 1))
VALUES = st.none() | st.booleans() | st.integers() | st.text()
NOTICES = st.builds(
    Notice,
    st.sampled_from(("session.unobserved", "accept.paused")),
    st.sampled_from(LEVELS),
    st.dictionaries(st.text(max_size=20).filter(lambda name: name not in ("event", "level")), VALUES, max_size=5),
)


@given(RECORDS)
def test_record_message_decodes_to_its_record(record):
    """A record survives its message, which fits the receiver's buffer."""
    message = encode_record(record)
    assert decode(message) == record
    assert len(message) <= MAX_MESSAGE


def test_record_message_of_the_largest_record_fits_the_buffer():
    """No record, whatever its texts, is larger than a message may be."""
    assert len(encode_record(largest())) <= MAX_MESSAGE


@given(st.lists(OPENED, max_size=MAX_OPENED))
def test_opened_message_decodes_to_its_batch(batch):
    """A batch of openings survives its message."""
    message = encode_opened([pack_opening(one.opened_at, one.route, one.identity) for one in batch])
    assert decode(message) == batch
    assert len(message) <= MAX_MESSAGE


def test_opened_message_of_too_many_is_refused():
    """A batch is bounded, so that its message is."""
    with pytest.raises(ValueError, match="101"):
        encode_opened([pack_opening(0.0, 0, 1)] * (MAX_OPENED + 1))


@given(NOTICES)
def test_notice_message_decodes_to_its_notice(notice):
    """A notice that fits survives its message."""
    message = encode_notice(notice)
    if len(str(notice.fields)) < MAX_NOTICE // 12:
        assert decode(message) == notice
    assert len(message) <= MAX_MESSAGE


@pytest.mark.parametrize(
    "fields",
    [{"why": "\U0001f600" * 5000}, {"why": "\x00" * 10_000, "times": 3}, {str(n): "" for n in range(2000)}],
    ids=["wide", "escaped", "many"],
)
def test_notice_message_of_long_fields_is_cut_to_fit(fields):
    """A traceback of any length leaves event, level and short fields whole."""
    message = encode_notice(Notice("exporter.defect", "error", fields))
    assert len(message) <= MAX_MESSAGE
    notice = decode(message)
    assert isinstance(notice, Notice)
    assert (notice.event, notice.level) == ("exporter.defect", "error")
    assert notice.fields.get("times") == fields.get("times")


def test_notice_message_with_a_field_json_lacks_sends_its_text():
    """An exception among the fields costs no line."""
    notice = decode(encode_notice(Notice("tls.failed", "debug", {"why": OSError("gone")})))
    assert notice == Notice("tls.failed", "debug", {"why": "gone"})


def test_flush_and_flushed_are_one_byte_each():
    """A scrape's question and its answer carry nothing but their kind."""
    assert decode(FLUSH) is Kind.FLUSH
    assert decode(FLUSHED) is Kind.FLUSHED
    assert len(FLUSH) == len(FLUSHED) == 1


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x00",
        b"\xff",
        FLUSH + b"x",
        bytes((Kind.OPENED,)) + b"x",
        bytes((Kind.RECORD,)),
        bytes((Kind.RECORD, VERSION + 1)) + pack(SessionRecord())[1:],
        bytes((Kind.NOTICE,)) + b"[]",
        bytes((Kind.NOTICE,)) + b"{}",
        bytes((Kind.NOTICE,)) + b'{"event":"a","level":"loud"}',
        bytes((Kind.NOTICE,)) + b"[" * 100_000,
        bytes((Kind.NOTICE,)) + b"\xff",
    ],
)
def test_malformed_message_is_refused(message):
    """A message that no relay sends raises ValueError."""
    with pytest.raises(ValueError):
        decode(message)


@given(st.sampled_from(Kind), st.binary(max_size=200))
def test_message_of_random_bytes_is_decoded_or_refused(kind, body):
    """Noise raises ValueError and nothing else."""
    with contextlib.suppress(ValueError):
        decode(bytes((kind,)) + body)
