"""Times of a command's stages, read from a journal."""

from tests.bench.timeline import AFTER, CPU, PROMPT, lines, stages


def test_stages_are_told_in_seconds_after_the_start() -> None:
    told = [
        ("started", 3),
        ("running", 4),
        ("running", 5),
        ("epoch", 6),
        ("epoch", 9),
        ("evaluated", 10),
        ("evaluated", 11),
        ("evidence", 14),
    ]
    found = stages([{"event": kind, "time_ms": 1000 * (100 + at)} for kind, at in told], 100, 116.5)
    assert found == {
        "Ray is up": 3,
        "the first trial runs": 4,
        "the last epoch is over": 9,
        "all trials are evaluated": 11,
        "the page is drawn": 14,
        PROMPT: 16.5,
        AFTER: 7.5,
    }


def test_beside_another_checkout_the_median_of_the_ratios_is_told() -> None:
    table = lines(
        [{PROMPT: 10.0}, {PROMPT: 20.0}, {PROMPT: 10.0}],
        [{PROMPT: 20.0}, {PROMPT: 30.0}, {PROMPT: 30.0}],
    )
    assert table[-1] == f"| {PROMPT} | 10.0 | 30.0 | 2.00x |"
    assert lines([{CPU: 1.0}], [])[-1] == f"| {CPU} | 1.0 |"
