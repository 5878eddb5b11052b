"""Batches: nobody waits for others, and what comes meanwhile is computed together."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from search.serving.batching import Batcher, BatchResult

IMAGE = np.zeros((8, 8, 1), dtype=np.uint8)


@dataclass
class Played:
    """A version that computes when it is let."""

    largest_batch: int = 8
    quick_batch: int = 0
    version: str = "1"
    sizes: list[int] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    let: threading.Event = field(default_factory=threading.Event)

    def judged(self, images: list[Any]) -> tuple[list[int], None]:
        return self.predictions(images), None

    def predictions(self, images: list[Any]) -> list[int]:
        self.sizes.append(len(images))
        self.threads.add(threading.current_thread().name)
        assert self.let.wait(600)
        if any(image.max() == 255 for image in images):
            raise ValueError("a model's mistake")
        return [int(image.max()) for image in images]


def played(
    served: Played, work: Callable[[Batcher], Coroutine[Any, Any, Any]]
) -> list[BatchResult]:
    """Have a batcher do some work, and return the batches."""
    heard = list[BatchResult]()

    async def main() -> None:
        batcher = Batcher(lambda: served, heard.append)  # type: ignore[arg-type,return-value]
        try:
            await work(batcher)
        finally:
            batcher.close()

    asyncio.run(main())
    return heard


def asked(batcher: Batcher, count: int, first: int = 0) -> "list[asyncio.Task[Any]]":
    """Ask for so many images, each its number."""
    return [
        asyncio.create_task(batcher.answers([IMAGE + number]))
        for number in range(first, first + count)
    ]


def test_an_image_alone_is_begun_at_once_and_later_ones_together() -> None:
    served = Played()

    async def work(batcher: Batcher) -> None:
        (first,) = asked(batcher, 1)
        while not served.sizes:
            await asyncio.sleep(0)
        later = asked(batcher, 5, first=1)
        await asyncio.sleep(0)
        served.let.set()
        answers = [found for one in (first, *later) for found, *_ in await one]
        assert answers == list(range(6))

    played(served, work)
    assert served.sizes == [1, 5]
    assert served.threads == {"inference"}


def test_batches_are_no_larger_than_the_version_computes_in_time() -> None:
    served = Played(largest_batch=3)
    served.let.set()

    async def work(batcher: Batcher) -> None:
        (found,) = [await batcher.answers([IMAGE + number for number in range(7)])]
        assert [value for value, *_ in found] == list(range(7))

    played(served, work)
    assert served.sizes == [3, 3, 1]


def test_a_quick_batch_is_computed_without_another_thread() -> None:
    served = Played(quick_batch=4)
    served.let.set()

    async def work(batcher: Batcher) -> None:
        await asyncio.gather(*asked(batcher, 4))

    played(served, work)
    assert served.sizes == [4]
    assert served.threads == {threading.current_thread().name}


def test_an_error_is_that_of_its_batch_alone() -> None:
    served = Played(largest_batch=1)
    served.let.set()

    async def work(batcher: Batcher) -> None:
        good, bad = asked(batcher, 1), asked(batcher, 1, first=255)
        with pytest.raises(ValueError, match="mistake"):
            await bad[0]
        assert [value for value, *_ in await good[0]] == [0]

    heard = played(served, work)
    assert [finished.error is None for finished in heard] == [True, False]


def test_each_answer_is_of_the_version_that_computed_it() -> None:
    old, new = Played(version="1"), Played(version="2")
    current = [old]
    new.let.set()

    async def main() -> None:
        batcher = Batcher(lambda: current[0], lambda finished: None)  # type: ignore[arg-type,return-value]
        (first,) = asked(batcher, 1)
        while not old.sizes:
            await asyncio.sleep(0)
        (second,) = asked(batcher, 1)
        current[0] = new
        old.let.set()
        told = [served.version for one in (first, second) for _, served, _ in await one]
        batcher.close()
        assert told == ["1", "2"]

    asyncio.run(main())


def test_what_metrics_do_not_understand_ends_its_batch_alone() -> None:
    served = Played(quick_batch=4)
    served.let.set()

    async def main() -> None:
        def computed(finished: BatchResult) -> None:
            if finished.predictions == [7]:
                raise ValueError("no axis 1")

        batcher = Batcher(lambda: served, computed)  # type: ignore[arg-type,return-value]
        try:
            with pytest.raises(ValueError, match="no axis 1"):
                await batcher.answers([IMAGE + 7])
            assert [value for value, *_ in await batcher.answers([IMAGE])] == [0]
        finally:
            batcher.close()

    asyncio.run(main())


def test_too_few_answers_are_an_error_of_all_that_were_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = Played()
    monkeypatch.setattr(served, "predictions", lambda images: [0])

    async def work(batcher: Batcher) -> None:
        for outcome in await asyncio.gather(*asked(batcher, 2), return_exceptions=True):
            assert "1 predictions for 2 images" in str(outcome)

    played(served, work)


def test_an_image_for_which_nobody_waits_any_more_is_not_computed() -> None:
    served = Played()

    async def work(batcher: Batcher) -> None:
        (first,) = asked(batcher, 1)
        while not served.sizes:
            await asyncio.sleep(0)
        gone, kept = asked(batcher, 2, first=1)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        served.let.set()
        answers = [found for one in (first, kept) for found, *_ in await one]
        assert answers == [0, 2]

    played(served, work)
    assert served.sizes == [1, 1]
