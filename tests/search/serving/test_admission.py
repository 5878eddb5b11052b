"""What is let in, and what is refused so that nobody waits for long."""

from contextlib import ExitStack

import pytest

from search.serving import admission
from search.serving.admission import Admission, Decoding, Ticket
from search.serving.limits import Limits, Refusal
from search.serving.metrics import Metrics

LIMITS = Limits(queue_images=10, queue_bytes=100, wait_s=2.0)


def made(each_s: float = 0.0) -> Admission:
    return Admission(LIMITS, Metrics(), lambda: each_s)


def test_bytes_beyond_the_bound_are_refused_until_others_are_released() -> None:
    own, first, second = made(), Ticket(), Ticket()
    own.take_bytes(first, 60)
    with pytest.raises(Refusal) as refused:
        own.take_bytes(second, 41)
    assert (refused.value.status, second.size) == (503, 0)
    own.release(first)
    own.take_bytes(second, 100)


def test_images_are_refused_where_they_would_wait_too_long_with_when_to_try_again() -> None:
    own = made(each_s=0.5)
    own.take_images(Ticket(), 3)
    own.take_images(Ticket(), 1)
    with pytest.raises(Refusal, match="try again in 2 s") as refused:
        own.take_images(Ticket(), 1)
    assert (refused.value.status, refused.value.retry_after_s) == (503, 2)


def test_images_beyond_the_queue_are_refused_however_quick_they_are() -> None:
    own = made()
    own.take_images(Ticket(), 10)
    with pytest.raises(Refusal):
        own.take_images(Ticket(), 1)


def test_an_idle_server_takes_any_request() -> None:
    ticket = Ticket()
    made(each_s=100).take_images(ticket, 256)
    assert ticket.images == 256


def test_images_are_refused_where_decoding_would_take_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoding, clock = Decoding(threads=2), iter((0.0, 0.4))
    monkeypatch.setattr(admission.time, "perf_counter", lambda: next(clock))
    assert decoding.timed(bytes, b"") == b""
    made = Admission(LIMITS, Metrics(), lambda: 0.0, lambda: decoding.wait_s)
    made.take_images(Ticket(), 1)
    with ExitStack() as stack:
        for _ in range(11):  # of 0.4 s by two threads
            stack.enter_context(decoding.one())
        with pytest.raises(Refusal, match="try again in 3 s"):
            made.take_images(Ticket(), 1)
    made.take_images(Ticket(), 1)
