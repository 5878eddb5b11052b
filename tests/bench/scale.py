"""Cost of a large search beside its training.

    python -m tests.bench.scale [--trials 1000] [--epochs 100]

The real command, Ray, Tune and an MLflow server, with a training that is only played and takes no
time (no torch): what is left is the search itself. Prints, for each tenth of the trials, the time
an epoch took, the memory of the driver, and the requests that MLflow got; the picture goes to
`notebooks/images/scale.png`. Takes a quarter of an hour for 1,000 trials of 100 epochs on 2 cores.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import psutil

from search.views.page.figures import save
from tests.faults.harness import ROOT, Search, Server
from tests.faults.proxy import Proxy

SPACE = (
    "\nfrom search.space import Float, SearchSpace\n"
    'space = SearchSpace({"optimizer.lr": Float(1e-4, 1e-1, log=True)}, '
    'base={"model.name": "deep_cnn", "epochs": %d})\n'
)


@dataclass(frozen=True)
class Sample:
    """The state of a running search."""

    seconds: float
    trials: int
    epochs: int
    driver_mb: float
    requests: int


def measure(trials: int, epochs: int, algorithm: str) -> list[Sample]:
    """Run the search and look at it once a second."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "large.py").write_text(SPACE % epochs)
        server = Server(folder, folder / "server.db").start()
        proxy = Proxy(server.uri)
        search = Search(folder, "large", tracking=proxy.uri)
        search.plan(played={"epoch_s": 0.0})
        samples: list[Sample] = []
        try:
            search.run(
                "--space",
                folder / "large.py",
                "--algorithm",
                algorithm,
                "--scheduler",
                "fifo",
                "--trials",
                trials,
            )
            watch(search, proxy, samples)
            done = search.finish(timeout=600)
            assert done.code == 0, done.err
            assert done.summary["epochs_trained"] == trials * epochs
        finally:
            search.end()
            proxy.close()
            server.kill()
        return samples


def watch(search: Search, proxy: Proxy, samples: list[Sample]) -> None:
    """Take a sample a second until the search ends."""
    assert search.process is not None
    driver, offset, ended, epochs, start = psutil.Process(search.process.pid), 0, 0, 0, 0.0
    while search.process.poll() is None:
        time.sleep(1)
        if not search.journal.exists():
            continue
        with search.journal.open("rb") as file:
            file.seek(offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        offset += len(whole)
        ended, epochs = (
            ended + whole.count(b'"event": "ended"'),
            epochs + whole.count(b'"event": "epoch"'),
        )
        start = start or (time.monotonic() if epochs else 0.0)
        if epochs and search.process.poll() is None:
            samples.append(
                Sample(
                    time.monotonic() - start,
                    ended,
                    epochs,
                    driver.memory_info().rss / 2**20,
                    len(proxy.requests),
                )
            )


def table(samples: list[Sample], trials: int) -> str:
    """Return a line for each tenth of the trials."""
    lines = [
        (
            "| trials | epochs | ms an epoch, since the line above | driver's memory, MB | "
            "MLflow requests an epoch |"
        ),
        "|---|---|---|---|---|",
    ]
    before = samples[0]
    for tenth in range(1, 11):
        sample = next(
            (sample for sample in samples if sample.trials >= trials * tenth // 10), samples[-1]
        )
        if sample.epochs > before.epochs:
            each = 1000 * (sample.seconds - before.seconds) / (sample.epochs - before.epochs)
            lines.append(
                f"| {sample.trials:,} | {sample.epochs:,} | {each:.1f} | "
                f"{sample.driver_mb:.0f} | {sample.requests / sample.epochs:.3f} |"
            )
        before = sample
    return "\n".join(lines)


def draw(samples: list[Sample]) -> None:
    """Draw epochs over time, and the driver's memory over epochs."""
    figure = mpl.figure.Figure(figsize=(9, 3.2), layout="constrained")
    speed, memory = figure.subplots(1, 2)
    speed.plot(
        [sample.seconds for sample in samples],
        [sample.epochs for sample in samples],
        color="tab:blue",
    )
    speed.set(
        xlabel="seconds since the first epoch",
        ylabel="epochs",
        title="a straight line: each epoch costs the same",
    )
    memory.plot(
        [sample.epochs for sample in samples],
        [sample.driver_mb for sample in samples],
        color="tab:red",
    )
    memory.set(
        xlabel="epochs",
        ylabel="driver's memory, MB",
        title="the journal's facts, and no more",
        ylim=(0, None),
    )
    save(figure, ROOT / "notebooks" / "images" / "scale.png")


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--algorithm", default="random")
    parser.add_argument("--draw", action="store_true", help="write the picture")
    args = parser.parse_args()
    samples = measure(args.trials, args.epochs, args.algorithm)
    print(table(samples, args.trials))
    if args.draw:
        draw(samples)


if __name__ == "__main__":
    main()
