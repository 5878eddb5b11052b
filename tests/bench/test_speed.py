"""The benchmark's own arithmetic, and what a search's journal tells it."""

from pathlib import Path

import pytest

from tests.bench.commands import of_journal
from tests.bench.searches import window_of
from tests.bench.speed import all_rows, is_named
from tests.bench.table import Figures, Row, Samples, Side, line, measure

JOURNAL = Path(__file__).parent.parent / "fixtures" / "search-v1" / "journal.jsonl"


def row(
    theirs: list[float],
    ours: list[float],
    *,
    best: tuple[float, float] = (0.95, 0.95),
    **more: object,
) -> tuple[Row, list[str]]:
    """A row whose sides give these seconds in turn, and the order in which they were asked."""
    asked: list[str] = []

    def side(title: str, values: list[float], accuracy: float) -> Side:
        def run(repetition: int) -> Figures:
            asked.append(title)
            return {"fit_s": values[repetition], "best": accuracy, "trials": 2}

        return Side(title, run)

    made = Row(
        name="P1",
        what="this",
        theirs=side("theirs", theirs, best[0]),
        ours=side("ours", ours, best[1]),
        best=True,
        like=("trials",),
        **more,
    )
    return made, asked


def printed(made: Row, repetitions: int) -> str:
    """The table's line."""
    samples = Samples()
    (done,) = measure([made], repetitions, samples)
    return line(done, samples)


def test_sides_run_in_turn_and_the_ratio_is_the_median_of_each_repetition() -> None:
    made, asked = row([10, 30, 20], [5, 5, 5])
    assert "| 20.0 s (10.0 to 30.0) | 5.00 s (5.00 to 5.00) | 4.00x (2.00 to 6.00)" in printed(
        made, 3
    )
    assert asked == ["theirs", "ours"] * 3


def test_what_is_better_by_more_is_the_other_way_round() -> None:
    made, _ = row([10], [40], more_is_better=True)
    assert "| 4.00x |" in printed(made, 1)


@pytest.mark.parametrize(("ours", "counts"), [(0.954, True), (0.956, False), (0.944, False)])
def test_a_row_counts_only_where_accuracies_are_equal_within_half_a_point(
    ours: float, counts: bool
) -> None:
    made, _ = row([10], [5], best=(0.95, ours))
    assert ("does not count" in printed(made, 1)) is not counts


def test_a_side_that_fails_leaves_the_others() -> None:
    def fail(repetition: int) -> Figures:
        raise RuntimeError("gone")

    whole, _ = row([10], [5])
    broken = Row(name="P2", what="that", theirs=whole.theirs, ours=Side("broken", fail))
    samples = Samples()
    assert {done.name for done in measure([broken, whole], 1, samples)} == {"P1", "P2"}
    assert "not measured: 'broken' failed" in line(broken, samples)
    assert "2.00x" in line(whole, samples)


def test_a_journal_tells_where_the_time_went() -> None:
    figures = of_journal(JOURNAL, 1795581900.0, 1795581950.0)
    assert figures["trials"] == 1
    assert figures["pure_s"] < figures["span_s"] < figures["fit_s"] < 50
    assert figures["before_s"] + figures["fit_s"] + figures["after_s"] == pytest.approx(50)
    assert 0 < figures["efficiency"] < figures["span_efficiency"] < 1


def test_the_window_is_from_the_last_slot_up_to_the_last_trial_that_starts() -> None:
    truth = [
        {"pid": pid, "time_ns": int(end * 1e9)}
        for pid, end in [(1, 101), (1, 102), (2, 102.5), (1, 103), (2, 103.5), (1, 104)]
    ]
    assert window_of(truth, 103.0, 1.0, 2) == {
        "window_s": pytest.approx(1.5),
        "window_efficiency": pytest.approx(1.0),
        "processes": 2,
    }
    assert window_of(truth, 103.0, 1.0, 3)["window_efficiency"] == pytest.approx(2 / 3)
    assert window_of(truth, 101.0, 1.0, 2)["window_s"] == 0


def test_names_choose_rows() -> None:
    assert is_named("P1b", "P1")
    assert not is_named("P12", "P1")
    assert not is_named("P1b", "P1=")
    names = [made.name for rows in all_rows("data", True) for made in rows]
    assert len(names) == len(set(names))
    assert {"P1", "P2", "P4", "P5", "P6", "P7", "P8", "P12", "P14", "cold"} <= set(names)
