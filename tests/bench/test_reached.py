import pytest

from search.journal import Event
from tests.bench.reached import cells, until


def event(number: int, kind: str, **data: object) -> Event:
    return Event(number, 1_000_000 + 1000 * number, kind, data)


def test_what_a_journal_says_of_a_target() -> None:
    config = {"epochs": 3}
    events = [event(0, "started", name="s", began_ms=1_000_000, slots=1, experiment={})]
    events += [event(1, "suggested", trial="t1", params={}, config=config), event(2, "running", trial="t1", attempt=1)]
    metrics = [{"val/accuracy": accuracy, "val/loss": 1.0, "time/epoch_s": 1.0} for accuracy in (0.5, 0.9, 0.7)]
    events += [event(3 + epoch, "epoch", trial="t1", epoch=1 + epoch, metrics=found) for epoch, found in enumerate(metrics)]
    assert until(events, 0.8) == (2, pytest.approx(4.0), 0.9)
    assert until(events, 0.95) == (3, None, 0.9)


def test_what_was_not_reached_is_more_than_was_tried() -> None:
    assert cells([(243, 60.0, 0.99), (486, 120.0, 0.995), (900, None, 0.97)], 1000) == [
        "486 (243 to more than 1,000)",
        "10.0 % (5.0 % to more)",
        "120 s (60 s to longer)",
        "0.9900 (0.9700 to 0.9950)",
    ]
