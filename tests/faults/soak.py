"""The same faults over and over, at random moments, until the time is up: `make soak`, or

    python -m tests.faults.soak [--seconds 600] [--seed 1] [--peer]

A round is one search: its driver is killed and resumed (F1), sometimes with a clock that is hours
off (F15); MLflow's server is killed and comes back after up to 20 s (F3); a worker is killed (F8).
When the search is complete the oracle looks whether the contract was kept. With `--peer` the same
is done to `tutorial.py`, a careful script after Ray's documentation, instead of this project.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from mlflow import MlflowClient

from tests.faults.harness import GRID, HERE, ROOT, Search, Server
from tests.faults.oracle import OURS, PEERS, Account, account

NOT_READY = 4
SLOTS, TRIALS, EPOCHS = 2, 9, 3
PAUSE_S = 0.7
STARTS_AT_MOST = 12
START_LASTS_S = 150


class Peer(Search):
    """The tutorial's script, started in the same way; its experiment is its name."""

    def resume(self, *words: object, **options: object) -> Search:
        """It restores what it finds."""
        return self.run(*words, **options)

    def run(
        self, *words: object, environment: dict[str, str] | None = None, **options: object
    ) -> Search:
        """Start the script."""
        command = [sys.executable, HERE / "tutorial.py", self.folder, self.tracking]
        around = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FAULTS_DIR": str(self.faults),
            "PAUSE_S": str(PAUSE_S),
            **(environment or {}),
        }
        with (self.faults / "out").open("ab") as out, (self.faults / "err").open("ab") as err:
            self.process = subprocess.Popen(
                list(map(str, command)),
                cwd=self.folder,
                env=around,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        return self


class Round:
    """One search and what happens to it."""

    def __init__(self, seed: int, folder: Path, server: Server, *, peer: bool) -> None:
        self.chance, self.server = random.Random(seed), server
        self.search = (
            Peer(folder, "peer", tracking=server.uri)
            if peer
            else Search(folder, f"soak-{seed}", tracking=server.uri)
        )
        self.faults: Counter[str] = Counter()
        self.kills = 0
        self.code: int | None = None
        self.is_worth_another_start = (
            (lambda code: code != 0) if peer else (lambda code: code == NOT_READY)
        )
        self.back_at: float | None = None

    def play(self, *, until: float) -> bool:
        """Hurt the search until it is complete; False when it did not come to an end in time."""
        self.search.plan({"do": "sleep", "seconds": PAUSE_S})
        self.search.run(*GRID)
        for _ in range(STARTS_AT_MOST):
            if not self.disturb() or time.monotonic() > until:
                break
            if self.code is not None and not self.is_worth_another_start(self.code):
                break
            self.code = None
            self.resume()
        self.mend()
        return self.code is not None

    def disturb(self) -> bool:
        """Let faults strike until the process is gone; False when it is not after a time in which
        it could have trained everything twice.
        """
        process = self.search.process
        assert process is not None
        strikes = self.chance.random() < 0.8
        target = len(self.search.truth()) + self.chance.randint(1, 8)
        end = time.monotonic() + START_LASTS_S
        while process.poll() is None:
            if time.monotonic() > end:
                self.mend()
                return False
            self.mend(when_due=True)
            if strikes and len(self.search.truth()) >= target:
                if self.chance.choice((self.kill_driver, self.kill_worker, self.kill_server))():
                    return True
                target = len(self.search.truth()) + self.chance.randint(2, 8)
            with suppress(subprocess.TimeoutExpired):
                process.wait(self.chance.uniform(0.02, 0.3))
        self.code = process.returncode
        return True

    def kill_driver(self) -> bool:
        """F1."""
        self.faults["F1 driver"] += 1
        self.kills += SLOTS
        assert self.search.process is not None
        self.search.process.kill()
        self.search.process.wait()
        return True

    def kill_worker(self) -> bool:
        """F8: the one that trained last, if it still lives."""
        with suppress(OSError):
            pid = self.search.truth()[-1]["pid"]
            if b"ray::" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                self.faults["F8 worker"] += 1
                self.kills += 1
        return False

    def kill_server(self) -> bool:
        """F3."""
        if self.back_at is None:
            self.faults["F3 MLflow"] += 1
            self.server.kill()
            self.back_at = time.monotonic() + self.chance.uniform(0, 20)
        return False

    def mend(self, *, when_due: bool = False) -> None:
        """Bring the server back."""
        if self.back_at is not None and not (when_due and time.monotonic() < self.back_at):
            self.server.start()
            self.back_at = None

    def resume(self) -> None:
        """Go on, perhaps with another clock. A resume needs MLflow's server at its start, and says
        so with exit code 4 where that is away.
        """
        self.mend()
        if self.chance.random() < 0.6 or not shutil.which("faketime"):
            self.search.resume()
            return
        self.faults["F15 clock"] += 1
        self.search.resume(
            environment=clock(f"-{self.chance.randint(1, 5)}h")
        )  # forward, Ray hangs in libfaketime


def clock(offset: str) -> dict[str, str]:
    """Return the variables that set the clock of a process and its children.

    The command `faketime` would do it too, but stand between us and the process.
    """
    library = subprocess.run(
        ["faketime", "-m", "-f", offset, "printenv", "LD_PRELOAD"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    return {"LD_PRELOAD": library, "FAKETIME": offset}


def main() -> int:
    """Play rounds until the time is up, then print the counts. 1 when the contract is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--peer", action="store_true", help="hurt the tutorial's script instead")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        seed = args.seed
        while time.monotonic() < end:
            folder = Path(place) / str(seed)
            folder.mkdir()
            counted = play(seed, folder, until=end + 120, peer=args.peer)
            print(
                f"seed {seed}: " + ", ".join(f"{name} {count}" for name, count in counted.items()),
                flush=True,
            )
            total += counted
            seed += 1
    return report(total, args)


def play(seed: int, folder: Path, *, until: float, peer: bool) -> Counter[str]:
    """One round, counted."""
    database = folder / "mlflow.db"
    MlflowClient(f"sqlite:///{database}").search_experiments()
    server = Server(folder, database).start()
    try:
        played = Round(seed, folder, server, peer=peer)
        ended = played.play(until=until)
        counted = Counter({"rounds": 1, **played.faults})
        if not ended:
            print(f"seed {seed} did not end; it says: {played.search.err[-3000:]}")
            counted["rounds without an end"] = 1
            played.search.end()
        found = account(played.search, server.uri, PEERS if peer else OURS)
        if not peer and played.code:
            print(f"seed {seed} ended with {played.code}; it says: {played.search.err[-3000:]}")
        return counted + count(found, played)
    finally:
        played.search.end()
        server.kill()


def count(found: Account, played: Round) -> Counter[str]:
    """The account in figures; those after `kills` break the contract."""
    return Counter(
        {
            "epochs trained": found.trained,
            "trained again": found.again.total(),
            "kills": played.kills,
            "epochs missing": TRIALS * EPOCHS - found.trained,
            "lost": len(found.lost),
            "doubled": len({row[:2] for row in found.doubled}),
            "untrue": len(found.untrue),
            "trials with more or fewer runs than one": len(found.runs),
            "zombies": len(found.zombies),
            "strays": len(found.strays),
            "wrong exit codes": int(played.code not in (0, None)),
            "trained again beyond the kills": max(0, found.again.total() - played.kills),
        }
    )


BROKEN = (
    "rounds without an end",
    "epochs missing",
    "lost",
    "doubled",
    "untrue",
    "trials with more or fewer runs than one",
    "zombies",
    "strays",
)
BROKEN += ("wrong exit codes", "trained again beyond the kills")


def report(total: Counter[str], args: argparse.Namespace) -> int:
    """The table."""
    print(
        f"\n{'the tutorial' if args.peer else 'this project'}, "
        f"seeds from {args.seed}, {args.seconds:g} s"
    )
    for name in (
        "rounds",
        *sorted(name for name in total if name[0] == "F"),
        "epochs trained",
        "trained again",
        "kills",
        *BROKEN,
    ):
        print(f"  {name:<40} {total[name]:>6}")
    return int(any(total[name] for name in BROKEN))


if __name__ == "__main__":
    raise SystemExit(main())
