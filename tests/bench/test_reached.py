import pytest

from search.design.experiment import base_of
from search.journal.events import Started, from_json
from search.journal.journal import Event
from search.journal.result import SearchResult, TrialResult
from search.spaces.find import find
from tests.bench.reached import cells, explained, played, played_row, stock_played, until
from trainables.config import TrialConfig


def event(number: int, kind: str, **data: object) -> Event:
    return Event(number, 1_000_000 + 1000 * number, from_json(kind, data))


def test_what_a_journal_says_of_a_target() -> None:
    config = {"epochs": 3}
    events = [event(0, "started", name="s", began_ms=1_000_000, slots=1, experiment={})]
    events += [
        event(1, "suggested", trial="t1", params={}, config=config),
        event(2, "running", trial="t1", attempt=1),
    ]
    metrics = [
        {"val/accuracy": accuracy, "val/loss": 1.0, "time/epoch_s": 1.0}
        for accuracy in (0.5, 0.9, 0.7)
    ]
    events += [
        event(3 + epoch, "epoch", trial="t1", epoch=1 + epoch, metrics=found)
        for epoch, found in enumerate(metrics)
    ]
    assert until(events, 0.8) == (2, pytest.approx(4.0), 0.9)
    assert until(events, 0.95) == (3, None, 0.9)


def test_what_was_not_reached_is_more_than_was_tried() -> None:
    assert cells([(243, 60.0, 0.99), (486, 120.0, 0.995), (900, None, 0.97)], 1000) == [
        "486 (243 to more than 1,000)",
        "10.0 % (5.0 % to more)",
        "120 s (60 s to longer)",
        "0.9900 (0.9700 to 0.9950)",
    ]


@pytest.fixture
def grid() -> SearchResult:
    """One of its 81 trainings comes to 0.9, at its 20th epoch, and is ahead before."""
    space = find("table3")
    base = base_of(TrialConfig(), space)
    grid = SearchResult(started=Started(experiment={"base": base.to_dict()}))
    good = {**next(space.points()), "epochs": 30}
    for number, params in enumerate(space.points()):
        config = base.override(params)
        values = [
            0.9 if params == good and epoch >= 20 else 0.5 + 0.01 * (params == good)
            for epoch in range(1, config.epochs + 1)
        ]
        epochs = {epoch: {"val/accuracy": value} for epoch, value in enumerate(values, 1)}
        grid.trials[f"t{number}"] = TrialResult(
            f"t{number}", params, config.to_dict(), epochs=epochs
        )
    return grid


@pytest.mark.parametrize(
    "options",
    [pytest.param({}, marks=pytest.mark.slow), {"algorithm": "random", "scheduler": "fifo"}],
)
def test_a_search_is_played_on_a_grids_curves(grid: SearchResult, options: dict[str, str]) -> None:
    epochs, reached, best = played(grid, 0.85, 2430, 0, **options)
    assert reached == epochs
    assert best == 0.9
    assert 20 <= epochs <= 2430
    assert (epochs < 500) == (options == {}), "early stopping finds it soon"
    assert played(grid, 0.85, 19, 0, **options)[1] is None


def test_the_peer_is_played_on_them_too(grid: SearchResult) -> None:
    epochs, reached, best = stock_played(grid, 0.85, 4860, 0)
    assert (epochs, best) == (reached, 0.9)
    assert 20 <= epochs < 4860
    assert stock_played(grid, 0.85, 4860, 1)[0] != epochs
    assert stock_played(grid, 0.95, 300, 0)[:2] == (300, None)


def test_how_soon_a_part_of_all_got_there_is_told() -> None:
    found = [(100, 100.0, 0.99), (300, 300.0, 0.99), (700, None, 0.97), (900, None, 0.97)]
    assert played_row("ours", found) == "| ours | 2 of 4 | 100 | 300 | 1 | 0.9800 |"
    assert played_row("ours", found[1:]) == "| ours | 1 of 3 | 300 | never | 0 | 0.9767 |"


def test_what_early_epochs_tell_of_the_end(grid: SearchResult) -> None:
    """All but one come to the same; that one is ahead from the first epoch on."""
    assert list(explained(grid, least=0.4)) == [1, 2, 4, 8, 16]
    assert list(explained(grid, least=0.4).values()) == pytest.approx([1.0] * 5)
