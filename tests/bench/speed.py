"""Speed of this project beside its peers.

    python -m tests.bench.speed [P1 P5 ...] [--data-root DIR] [--quick] [--out FILE]

Prints one Markdown table. Both sides of a row run in turn, A B A B ..., in one sitting on one
machine; a row gives the median over the repetitions, with the range, and of ratios the median of
each repetition's. Above 1 is better for us. Where networks are trained, both sides train the same
learning rates on the same images, and a row whose best accuracies differ by more than half a point
says that it does not count. Ray's start is in the whole commands only, and so is what comes after
the trials, of ours the test and the pictures too; their ratio stands in a column of its own. A name
chooses its row and those that begin with it: `P1` is P1 and P1b and P1c, `P1=` is P1 alone.
"""

import argparse
from pathlib import Path

from tests.bench import recording, searches, single
from tests.bench.table import HEADER, Row, Samples, line, machine, measure


def all_rows(data_root: str, quick: bool) -> list[list[Row]]:
    """Return every row, in groups.

    The rows of a group are measured together, and share what they have in common.
    """
    return [part.rows(data_root, quick) for part in (single, searches, recording)]


def chosen(rows: list[Row], names: list[str]) -> list[Row]:
    """Return the rows that are asked for; all if none is named."""
    return [row for row in rows if not names or any(is_named(row.name, name) for name in names)]


def is_named(row: str, name: str) -> bool:
    """Return whether `name` means this row: P1 means P1 and P1b, and not P12; P1= means P1."""
    return row == name.rstrip("=") or (
        not name.endswith("=") and row.startswith(name) and not row[len(name)].isdigit()
    )


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to measure (default: all)")
    parser.add_argument(
        "--data-root",
        default="data",
        metavar="DIR",
        help="where torchvision's MNIST lies (default: data)",
    )
    parser.add_argument(
        "--repetitions", type=int, default=3, metavar="N", help="of each side (default: 3)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="add the figures of every repetition to this file, a JSON object a line",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="little work: to try whether it runs; its figures mean nothing",
    )
    parser.add_argument("--list", action="store_true", help="name the rows, measure nothing")
    return parser.parse_args()


def main() -> None:
    """Measure and print row by row."""
    args = options()
    groups = [chosen(rows, args.rows) for rows in all_rows(args.data_root, args.quick)]
    if not any(groups):
        raise SystemExit(f"no such row: {' '.join(args.rows)}. --list names them.")
    if args.list:
        print(*(f"{row.name}: {row.what}" for rows in groups for row in rows), sep="\n")
        return
    samples = Samples(args.out)
    print(HEADER, flush=True)
    for rows in groups:
        for row in measure(rows, args.repetitions, samples):
            print(line(row, samples), flush=True)
    print(
        f"\nMedians of {args.repetitions} "
        f"repetitions{', tiny ones (--quick)' if args.quick else ''}. {machine()}"
    )


if __name__ == "__main__":
    main()
