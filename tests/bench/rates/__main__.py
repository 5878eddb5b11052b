"""Measure every error rate, interval and power that the product states, beside its promise.

    python -m tests.bench.rates                     # all; prints the tables of the docs
    python -m tests.bench.rates --only guessing     # one feature
    python -m tests.bench.rates --share 0.05        # a twentieth of the repetitions, for a look

The exit code is 1 if a promise does not hold.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module

from tests.bench.rates.case import Case, Measured, Tally, holds, measure
from tests.bench.rates.registry import FEATURES

HEADER = ("case", "promise", "promised", "measured", "stated in", "holds")


def cases_of(feature: str) -> list[Case]:
    """Return the cases of a feature of the registry."""
    cases: list[Case] = import_module(f"tests.bench.rates.{FEATURES[feature]}").cases()
    return cases


def measure_one(feature: str, number: int, share: float, seed: int) -> dict[str, Tally]:
    """Measure one case in a process of its own; a case is named, since it cannot be pickled."""
    case = cases_of(feature)[number]
    return measure(case, max(1, round(share * case.repetitions)), seed).tallies


def rows_of(measured: Measured) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the cells of a table's rows, and whether each promise holds."""
    for name, tally in measured.tallies.items():
        promise = measured.case.promises[name]
        is_kept = holds(promise, tally)
        yield (
            (
                measured.case.title,
                f"{name} ({promise.kind})",
                f"{100 * promise.share:.4g} %",
                share_of(tally),
                str(tally.stated),
                "yes" if is_kept else "NO",
            ),
            is_kept,
        )


def share_of(tally: Tally) -> str:
    """Return `1.2 % (0.7 to 2.1)`, or a dash if nothing was ever stated."""
    if not tally.stated:
        return "-"
    low, high = tally.interval
    return f"{100 * tally.share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table for each feature; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=sorted(FEATURES), metavar="FEATURE")
    parser.add_argument("--share", type=float, default=1.0, help="of the repetitions of each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args(argv)
    broken = 0
    with ProcessPoolExecutor(args.processes) as pool:
        for feature in args.only or FEATURES:
            cases = cases_of(feature)
            futures = [
                pool.submit(measure_one, feature, number, args.share, args.seed)
                for number in range(len(cases))
            ]
            print(f"\n### {cases[0].feature}\n")
            print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
            for case, future in zip(cases, futures, strict=True):
                for cells, is_kept in rows_of(Measured(case, future.result())):
                    broken += not is_kept
                    print(f"| {' | '.join(cells)} |", flush=True)
    if broken:
        print(f"\n{broken} promises do not hold", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
