"""What is let in, and what is refused so that nobody waits for long."""

import asyncio
import threading

import pytest

from search.serving import admission
from search.serving.admission import Admission, DecodingPool, Ticket
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
    assert (refused.value.status, second.size_bytes) == (503, 0)
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


def test_a_request_has_no_more_pixels_than_one_may_have() -> None:
    own = made()
    own.check_pixels([LIMITS.request_pixels - 5, 5])
    words = "200,000,001 pixels in total .limit 200,000,000.: send fewer"
    with pytest.raises(Refusal, match=words) as refused:
        own.check_pixels([LIMITS.request_pixels, 1])
    assert refused.value.status == 413


MILLION = 1_000_000


class Slow:
    """Images that are decoded until a test lets them."""

    def __init__(self, threads: int, most_pixels: int = 50 * MILLION) -> None:
        self.decoding = DecodingPool(threads, most_pixels)
        self.begun = list[str]()
        self._may_end = dict[str, threading.Event]()

    def decode(self, name: str, pixels: int) -> "asyncio.Task[str]":
        event = self._may_end[name] = threading.Event()

        def call() -> str:
            self.begun.append(name)
            event.wait(600)
            return name

        return asyncio.create_task(self.decoding.decode(pixels, call))

    def end(self, *names: str) -> None:
        for name in names or self._may_end:
            self._may_end[name].set()

    async def until(self, *begun: str) -> None:
        async with asyncio.timeout(600):
            while sorted(self.begun) != sorted(begun):
                await asyncio.sleep(0)


def test_images_are_decoded_together_as_far_as_there_is_room() -> None:
    """Two of 49 million pixels never; what is cancelled gives its room to the next."""

    async def work() -> None:
        slow = Slow(threads=2)
        first = slow.decode("large", 49 * MILLION)
        await slow.until("large")
        gone, third = slow.decode("gone", 49 * MILLION), slow.decode("third", 24 * MILLION)
        fourth = slow.decode("fourth", 24 * MILLION)
        small = [slow.decode(f"small {number}", 12 * MILLION) for number in range(3)]
        for _ in range(9):
            await asyncio.sleep(0)
        await slow.until("large", "small 0", "small 1")  # large ones hold up no others
        gone.cancel()
        slow.end("large", "small 0", "small 1")
        await slow.until("large", "small 0", "small 1", "third", "fourth", "small 2")
        slow.end()
        await asyncio.gather(first, third, fourth, *small)
        assert slow.decoding.wait_s(1) == slow.decoding.wait_s(49 * MILLION) == 0
        slow.decoding.close()

    asyncio.run(work())


def test_room_is_given_back_when_a_thread_ends_and_not_when_nobody_waits_any_more() -> None:
    async def work() -> None:
        slow = Slow(threads=2)
        left = slow.decode("left", 49 * MILLION)
        await slow.until("left")
        left.cancel()
        await asyncio.wait([left])
        following = slow.decode("next", 49 * MILLION)
        for _ in range(9):
            await asyncio.sleep(0)
        assert slow.begun == ["left"]
        slow.end("left")
        await slow.until("left", "next")
        slow.end()
        assert await following == "next"
        slow.decoding.close()

    asyncio.run(work())


def test_an_image_that_gets_its_room_as_its_client_leaves_gives_it_back() -> None:
    async def work() -> None:
        slow = Slow(threads=2)
        first = slow.decode("first", 49 * MILLION)
        await slow.until("first")
        second = slow.decode("second", 49 * MILLION)
        await asyncio.sleep(0)
        slow.decoding._large._release(
            49 * MILLION + admission.OVERHEAD_PIXELS
        )  # the second may begin
        second.cancel()
        await asyncio.wait([second])
        third = slow.decode("third", 49 * MILLION)
        await slow.until("first", "third")
        slow.end()
        assert await asyncio.gather(first, third) == ["first", "third"]
        slow.decoding.close()

    asyncio.run(work())


def test_images_are_refused_where_decoding_would_take_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By their pixels: a large image says nothing of how long a small one takes."""

    async def work() -> None:
        slow = Slow(threads=2)
        with monkeypatch.context() as played:
            clock = iter((0.0, 1.0) * 2)
            played.setattr(admission.time, "perf_counter", lambda: next(clock))
            slow.decoding._usual._time_call(10 * MILLION, str)  # 0.1 s for a million
            slow.decoding._large._time_call(10 * MILLION, str)
        own = Admission(LIMITS, Metrics(), lambda: 0.0, slow.decoding.wait_s)
        own.check_pixels([49 * MILLION])
        tasks = [slow.decode("large", 49 * MILLION)]
        tasks += [slow.decode(f"small {number}", 1000) for number in range(50)]
        await asyncio.sleep(0)
        own.check_pixels([1000])  # 0.03 s by two threads
        with pytest.raises(Refusal, match="try again in 5 s") as refused:
            own.check_pixels([1000, 20 * MILLION])
        assert (refused.value.status, refused.value.retry_after_s) == (503, 5)
        slow.end()
        await asyncio.gather(*tasks)
        own.check_pixels([20 * MILLION])
        slow.decoding.close()

    asyncio.run(work())
