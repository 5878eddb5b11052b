"""The rows that compare whole searches: wall time, slots, start-up, trials a second."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.bench.commands import Work, cluster, execute, of_journal, peer, scratch, search
from tests.bench.table import Figures, Row, Side
from tests.faults.harness import Search

PLAYED = (
    "\nfrom search.space import Float, SearchSpace\n"
    'space = SearchSpace({"optimizer.lr": Float(1e-4, 1e-1, log=True)}, '
    'base={"model.name": "deep_cnn", "epochs": %d})\n'
)
ALIKE = ("trials", "epochs")


def warm(work: Work, seed: int) -> Figures:
    """Run our second search on a cluster that is up.

    The first one has decoded the images, read everything from disk, and made MLflow's database.
    """
    with scratch() as kept, cluster(work.slots) as (address, environment):
        environment |= {
            "XDG_CACHE_HOME": str(kept),
            "MLFLOW_TRACKING_URI": f"sqlite:///{kept}/mlflow.db",
        }
        search(work, seed, "--address", address, environment=environment)
        return search(work, seed, "--address", address, environment=environment)


def played(*, trials: int, epochs: int, epoch_s: float, slots: int) -> Figures:
    """Run our command with a training that only sleeps."""
    with scratch() as folder:
        (folder / "played.py").write_text(PLAYED % epochs)
        run = Search(folder, "played")
        run.plan(played={"epoch_s": epoch_s})
        try:
            run.run(
                "--space",
                folder / "played.py",
                "--algorithm",
                "random",
                "--scheduler",
                "fifo",
                "--trials",
                trials,
                "--concurrency",
                slots,
            )
            done = run.finish(timeout=900)
            ended = time.time()
            assert done.code == 0, done.err
            check_recorded(folder / "mlflow.db", trials)
            told = of_journal(run.journal, ended - done.seconds, ended)
            return {
                **told,
                **rates(trials, told["fit_s"], done.seconds),
                **window_of(
                    run.truth(), run.events("running")[-1]["time_ms"] / 1000, epoch_s, slots
                ),
            }
        finally:
            run.end()


def check_recorded(database: Path, trials: int) -> None:
    """Check that MLflow has a run of each trial."""
    with closing(sqlite3.connect(database)) as opened:
        (count,) = opened.execute("SELECT COUNT(*) FROM runs").fetchone()
    assert count >= trials, f"MLflow has {count} runs of {trials} trials"


def rates(trials: int, fit_s: float, command_s: float) -> Figures:
    """Return trials a second."""
    return {
        "trials_s": trials / fit_s,
        "command_s": command_s,
        "command_trial_s": command_s / trials,
    }


def noop(trials: int, *words: object) -> Figures:
    """Run trials of Tune that do nothing."""
    with scratch() as folder:
        printed, _, seconds = execute(
            ["tests.bench.peers.tune_noop", "--trials", trials, "--out", folder / "out", *words],
            folder,
        )
        check_recorded(folder / "out" / "mlflow.db", trials)
    figures: Figures = json.loads(printed.splitlines()[-1])
    return {**figures, **rates(trials, figures["fit_s"], seconds)}


def window_of(truth: list[dict[str, Any]], last: float, epoch_s: float, slots: int) -> Figures:
    """Return `window_efficiency`: the share of the slots that train.

    It is of `window_s` seconds from when all are up until the queue is empty. If fewer than all
    ever come up (`processes`), the window begins with the last that does, and the others count as
    idle.

    Args:
        truth: a line for each epoch that was trained, with its process and the time of its end.
        last: the Unix time at which the last trial got its slot.
        epoch_s: what an epoch takes.
        slots: as many processes are all.
    """
    first_of: dict[int, float] = {}
    ends = [epoch["time_ns"] / 1e9 for epoch in truth]
    for epoch, end in zip(truth, ends, strict=True):
        first_of.setdefault(epoch["pid"], end - epoch_s)
    up = sorted(first_of.values())[:slots][-1]
    if up >= last:
        return {"window_s": 0.0, "window_efficiency": 0.0, "processes": len(first_of)}
    busy = sum(max(0.0, min(end, last) - max(end - epoch_s, up)) for end in ends)
    return {
        "window_s": last - up,
        "window_efficiency": busy / (slots * (last - up)),
        "processes": len(first_of),
    }


def smoke(seed: int) -> Figures:
    """Run the smoke space on the digits data, from nothing to its first step."""
    with scratch() as folder:
        words = [
            "search.run",
            "--space",
            "smoke",
            "--name",
            "s",
            "--seed",
            seed,
            "--device",
            "cpu",
            "--algorithm",
            "random",
            "--scheduler",
            "fifo",
            "--json",
        ]
        _, began, seconds = execute(words, folder, {"XDG_CACHE_HOME": str(folder / "cache")})
        return {
            "command_s": seconds,
            **of_journal(folder / "searches" / "s" / "journal.jsonl", began, began + seconds),
        }


def rows(data_root: str, quick: bool) -> list[Row]:
    """Return the rows: P1, P1b, P1c, P2, P4, P5 and cold share their sides; P6 and P14 play."""
    work = Work(data_root=data_root, **({"trials": 4, "epochs": 1, "train": 1000} if quick else {}))
    what = f"{work.trials} MNIST trials of {work.epochs} x {work.train:,} images"
    return [*timed(work, what), *used(work, quick), *cold(work), *empty(quick)]


def timed(work: Work, what: str) -> list[Row]:
    """Return the rows on wall times of the same trials."""
    ours = Side("ours, cold", lambda seed: search(work, seed))
    again = Side("ours, warm", lambda seed: warm(work, seed))
    compared = [
        ("P1", "Tune default, stock training", "tune_stock", (), ours, "cold"),
        ("P1b", "Tune reuse_actors, stock training", "tune_stock", ("--reuse",), ours, "cold"),
        ("P1c", "Optuna, pool of processes, stock training", "optuna_pool", (), ours, "cold"),
        ("P2", "Tune default, stock training", "tune_stock", (), again, "warm"),
        ("P2b", "Tune reuse_actors, stock training", "tune_stock", ("--reuse",), again, "warm"),
        ("P4", "Tune default, our training", "tune_fast", (), again, "warm"),
        ("P4b", "Tune reuse_actors, our training", "tune_fast", ("--reuse",), again, "warm"),
    ]
    return [
        Row(
            name=name,
            what=f"{what}: {title}, against ours {state}",
            theirs=of_peer(title, peer_name, work, words),
            ours=side,
            whole="command_s",
            like=ALIKE,
            best=True,
        )
        for name, title, peer_name, words, side, state in compared
    ]


def of_peer(title: str, name: str, work: Work, words: tuple[str, ...]) -> Side:
    """Return the side of a peer on this work."""
    return Side(title, lambda seed: peer(name, work, seed, *words))


def used(work: Work, quick: bool) -> list[Row]:
    """Return the rows on slot efficiency."""
    more = Work(
        data_root=work.data_root,
        **({"trials": 8, "epochs": 1, "train": 1000} if quick else {"trials": 60}),
    )
    long = Side("ours, many trials", lambda seed: search(more, seed))
    sleeping = Side(
        "ours, played", lambda seed: played(trials=more.trials, epochs=2, epoch_s=0.75, slots=2)
    )
    theirs = of_peer("Tune default, stock training", "tune_stock", work, ())
    what = f"share of 2 slots that trains, {more.trials} trials"
    share = {"figure": "efficiency", "unit": "", "more_is_better": True}
    return [
        Row(
            name="P5",
            what=f"{what}: whole fit, against Tune default with stock training (longer trials)",
            theirs=theirs,
            ours=long,
            **share,
        ),
        Row(
            name="P5b",
            what=f"{what}: first step to last",
            ours=long,
            figure="span_efficiency",
            unit="",
        ),
        Row(
            name="P5c",
            what=f"{what} that sleep 1.5 s: whole fit",
            ours=sleeping,
            figure="efficiency",
            unit="",
        ),
        Row(
            name="P5d",
            what=f"{what} that sleep 1.5 s: first step to last",
            ours=sleeping,
            figure="span_efficiency",
            unit="",
        ),
    ]


def cold(work: Work) -> list[Row]:
    """Return the rows on the time from the command to the first training step."""
    theirs, ours = (
        of_peer("Tune default, stock training", "tune_stock", work, ()),
        Side("ours, cold", lambda seed: search(work, seed)),
    )
    return [
        Row(
            name="cold",
            what=(
                "the command's start to the first training step, MNIST: Tune default, stock "
                "training"
            ),
            theirs=theirs,
            ours=ours,
            figure="first_step_s",
        ),
        Row(
            name="cold-digits",
            what="the same, the smoke space on digits",
            ours=Side("ours, smoke", smoke),
            figure="first_step_s",
        ),
    ]


def empty(quick: bool) -> list[Row]:
    """Return the rows on what a trial costs beside its training."""
    many, few = (40, 6) if quick else (300, 20)
    slots, crowd = (4, 24) if quick else (16, 160)
    ours = Side("ours, no-op", lambda seed: played(trials=many, epochs=1, epoch_s=0.0, slots=2))
    default, reuse = (
        Side("Tune default, no-op", lambda seed: noop(few)),
        Side("Tune reuse_actors, no-op", lambda seed: noop(many, "--reuse")),
    )
    crowded = Side(
        "ours, many slots", lambda seed: played(trials=crowd, epochs=1, epoch_s=1.0, slots=slots)
    )
    rate = {
        "figure": "trials_s",
        "unit": "a second",
        "more_is_better": True,
        "whole": "command_trial_s",
    }
    what = "trials that do nothing, each with its MLflow run"
    window = (
        f"share of {slots} slots that trains, from when all are up until the queue is empty, "
        f"{crowd} trials that sleep 1 s"
    )
    return [
        Row(
            name="P6",
            what=f"{what}: {few} with Tune default, {many} with ours",
            theirs=default,
            ours=ours,
            **rate,
        ),
        Row(
            name="P6b",
            what=f"{what}: {many} with Tune reuse_actors, {many} with ours",
            theirs=reuse,
            ours=ours,
            **rate,
        ),
        Row(name="P14", what=window, ours=crowded, figure="window_efficiency", unit=""),
    ]
