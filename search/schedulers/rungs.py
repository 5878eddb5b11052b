"""The rungs of a search, at which trials wait, and the epochs that plans expect of a trial."""

import math

REDUCTION = 2
"""The ratio of each rung to the one before."""
FIRST_SHARE = 0.01
"""The default of the first rung, as a share of the longest trial."""
SHARE, SHARE_TO_BE_SURE = 0.6, 0.05
"""For plans: the share of a rung that continues, and its growth with `--sure`.

Re-derive it from the column of epochs of `python -m tests.bench.replay`.
"""


def first_rung(horizon: int) -> int:
    """Return the default of the first rung, if the longest trial has `horizon` epochs."""
    return max(1, round(FIRST_SHARE * horizon))


def rungs_for(horizon: int, first: int, reduction: int = REDUCTION) -> list[int]:
    """Return the rungs: `first`, `reduction` times that, and so on.

    The last one is well below the horizon: a trial that has come so far costs little to finish.
    """
    rungs = [first]
    while rungs[-1] * reduction < horizon:
        rungs.append(rungs[-1] * reduction)
    while rungs and rungs[-1] * math.sqrt(reduction) > horizon:
        rungs.pop()
    return rungs


def expected_epochs(
    epochs: int, horizon: int, grace: int | None = None, sure: float = 0.0
) -> float:
    """Return the mean number of epochs spent on a trial that is to have `epochs` of them.

    Each rung is taken to keep the same share of its trials.
    """
    spent, share, last = 0.0, 1.0, 0
    for rung in [
        *(rung for rung in rungs_for(horizon, grace or first_rung(horizon)) if rung < epochs),
        epochs,
    ]:
        spent += share * (rung - last)
        share, last = share * (SHARE + SHARE_TO_BE_SURE * sure), rung
    return spent
