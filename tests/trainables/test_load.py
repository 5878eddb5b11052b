"""How busy others keep the processors, as the system's counters tell."""

from pathlib import Path

import pytest

from trainables import processors
from trainables.processors import Load

CASES = {
    "others alone": ("cpu  60 0 20 110 10 0 0 0 0 0", 0.0, 0.8),
    "idle": ("cpu  0 0 0 210 10 0 0 0 0 0", 0.0, 0.0),
    "this process alone": ("cpu  60 0 20 110 10 0 0 0 0 0", 0.8, 0.0),
    "half and half": ("cpu  60 0 20 110 10 0 0 0 0 0", 0.4, 0.4),
    "stolen by other machines": ("cpu  0 0 0 150 10 0 0 40 0 0", 0.0, 0.4),
}


@pytest.mark.parametrize(("now", "own_s", "share"), CASES.values(), ids=CASES)
def test_the_share_of_others_is_what_is_neither_idle_nor_ones_own(
    now: str, own_s: float, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat, own = tmp_path / "stat", iter([1.0, 1.0 + own_s])
    monkeypatch.setattr(processors.time, "process_time", lambda: next(own))
    monkeypatch.setattr(processors, "TICKS", 100)
    stat.write_text("cpu  0 0 0 100 0 0 0 0 0 0\ncpu0 1 2 3\n")
    load = Load(stat)
    stat.write_text(f"{now}\ncpu0 1 2 3\n")
    assert load.of_others() == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "intr 1 2", "cpu  a b c d e f g h"])
def test_nothing_is_said_where_no_system_counts(text: str, tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(text)
    assert Load(tmp_path / "stat").of_others() == 0
    assert Load(tmp_path / "none").of_others() == 0


def test_a_process_that_got_a_quarter_of_the_time_took_four_times_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, clock = iter([1.0, 3.0]), iter([10.0, 18.0])
    monkeypatch.setattr(processors.time, "process_time", lambda: next(own))
    monkeypatch.setattr(processors.time, "monotonic", lambda: next(clock))
    assert Load().slowdown() == 4.0
