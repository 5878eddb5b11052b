"""Time that early stopping takes for a decision, by the number of trials.

    python -m tests.bench.deciding [--trials 100 1000 3000] [--costs 1]

The scheduler alone is asked, for made-up trainings of 256 epochs, with eight rungs and two
parameters. Counted is the processor's time from a question, who is next, to its answer; means over
a search, and over its last quarter. With `--costs`, trials are compared by so many costs too, as
with `--objective`; these are made up as well.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np

from search.design.experiment import SURE
from search.schedulers.asha import Asha
from search.schedulers.base import NEW, Setting
from search.values.objectives import MAX_FURTHER
from trainables.values import Params

HORIZON = 256
NOISE = 0.003
"""The deviation of a value between one epoch and the next."""


def measure(trials: int, costs: int = 0) -> list[float]:
    """Play a search of so many trials, with so many costs, and return each decision's seconds."""
    generator, asha = np.random.default_rng(0), Asha(Setting(HORIZON, grace=1, sure=SURE))
    asha.error_of = lambda value: NOISE  # type: ignore[method-assign]
    ends: dict[str, float] = {}
    epochs: dict[str, int] = {}
    best: dict[str, float] = {}
    seconds = []
    while True:
        began = time.thread_time()
        chosen = asha.choose(new=len(ends) < trials)
        seconds.append(time.thread_time() - began)
        if chosen is None:
            return seconds
        if chosen == NEW:
            chosen = f"t{len(ends)}"
            params: Params = {
                "optimizer.lr": float(10 ** generator.uniform(-3, 0)),
                "optimizer.momentum": float(generator.uniform(0.1, 0.99)),
            }
            asha.begin(chosen, params, chosen)
            ends[chosen], epochs[chosen], best[chosen] = float(generator.uniform(0.5, 0.9)), 0, 0.0
            if costs:
                asha.cost(chosen, tuple(generator.uniform(1, 100, costs).tolist()))
        else:
            asha.go_on(chosen)
        waits = False
        while not waits and epochs[chosen] < HORIZON:
            epochs[chosen] += 1
            value = ends[chosen] * (1 - np.exp(-epochs[chosen] / 20)) + generator.normal(0, NOISE)
            best[chosen] = max(best[chosen], float(value))
            waits = asha.on_epoch(chosen, epochs[chosen], best[chosen])
        if not waits:
            asha.end(chosen, "completed", best[chosen])


def main(argv: Sequence[str] | None = None) -> None:
    """Play searches of several sizes and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 3000], metavar="N")
    parser.add_argument("--costs", type=int, default=0, choices=range(MAX_FURTHER + 1))
    args = parser.parse_args(argv)
    measure(20, args.costs)  # what is imported and computed once does not count
    print("| trials | decisions | ms a decision | in the last quarter |\n|---|---|---|---|")
    for trials in args.trials:
        took = 1000 * np.array(measure(trials, args.costs))
        last = took[-len(took) // 4 :].mean()
        print(f"| {trials:,} | {len(took):,} | {took.mean():.1f} | {last:.1f} |", flush=True)


if __name__ == "__main__":
    main()
