"""What is let in, and what is refused so that nobody waits for long."""

import pytest

from search.serving.admission import Admission, Ticket
from search.serving.limits import Limits, Refusal
from search.serving.metrics import Metrics

LIMITS = Limits(queue_images=10, queue_bytes=100, wait_s=2.0)


def made(each_s: float = 0.0) -> Admission:
    return Admission(LIMITS, Metrics(), lambda: each_s)


def test_bytes_beyond_the_bound_are_refused_until_others_are_released() -> None:
    admission, first, second = made(), Ticket(), Ticket()
    admission.take_bytes(first, 60)
    with pytest.raises(Refusal) as refused:
        admission.take_bytes(second, 41)
    assert (refused.value.status, second.size) == (503, 0)
    admission.release(first)
    admission.take_bytes(second, 100)


def test_images_are_refused_where_they_would_wait_too_long_with_when_to_try_again() -> None:
    admission = made(each_s=0.5)
    admission.take_images(Ticket(), 3)
    admission.take_images(Ticket(), 1)
    with pytest.raises(Refusal, match="try again in 2 s") as refused:
        admission.take_images(Ticket(), 1)
    assert (refused.value.status, refused.value.retry_after_s) == (503, 2)


def test_images_beyond_the_queue_are_refused_however_quick_they_are() -> None:
    admission = made()
    admission.take_images(Ticket(), 10)
    with pytest.raises(Refusal):
        admission.take_images(Ticket(), 1)


def test_an_idle_server_takes_any_request() -> None:
    made(each_s=100).take_images(Ticket(), 256)
