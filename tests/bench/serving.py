"""Speed of `python -m search.serve` beside MLflow's server, LitServe and a FastAPI endpoint.

    python -m tests.bench.serving [digits cifar resnet18 photographs] [--litserve PYTHON]
        [--before PYTHON] [--rounds N]
    python -m tests.bench.serving --pair WITHOUT WITH IMAGE [--rounds N]

All serve the same network exported to ONNX, MLflow the pyfunc model that `search.promote` makes.
`wrk` sends single images over 1, 8 and 64 connections that stay open: ours and the others get a PNG
file as it is, in a form or as base64, MLflow pixels as JSON. `photographs` sends JPEG files of
800 x 600 pixels (to MLflow what the network sees of them). `--before` names the Python of another
tree, whose `search.serve` is measured beside ours. They are started one after the other, then
asked in turn, A B C D A B C D ..., for a second each, while the others have nothing to do. `--pair`
serves two promoted models of one network, such as one without and one with promises, and sends an
image's file to them. Prints a Markdown table: medians over these rounds, and of ratios the medians
of each round's.
"""

import argparse
import base64
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from tests.bench.table import machine, progress
from tests.support.ports import free_ports

CLIENTS = (1, 8, 64)
NETWORKS = {
    "digits": {"model.name": "deep_cnn"},
    "cifar": {"model.name": "deep_cnn", "side": 32, "channels": 3},
    "resnet18": {"model.name": "resnet18", "side": 32, "channels": 3},
    "photographs": {"model.name": "deep_cnn", "side": 64, "channels": 3},
}
PHOTOGRAPH = (800, 600)
"""Width and height of what is sent to the last network."""
PEERS = Path(__file__).with_name("peers")
LUA = """
wrk.method = "POST"
local file = io.open(os.getenv("BODY"), "rb")
wrk.body = file:read("*all")
wrk.headers["Content-Type"] = os.getenv("KIND")
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "us": %d, "p50": %.1f, "p99": %.1f, "errors": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
"""


@dataclass(frozen=True)
class Server:
    """One way to serve the network in a folder."""

    title: str
    words: Callable[[Path, int], list[str]]
    """Returns the command, for a folder and a port."""
    path: str
    body: Callable[[bytes, Any], tuple[bytes, str]]
    """Returns a request's body and its type, for an image's file and its pixels."""


def servers(litserve: str | None, before: str | None) -> list[Server]:
    """Return all that are compared, ours last."""
    own = sys.executable
    found = [
        Server(
            "mlflow",
            lambda folder, port: [
                *(own, "-m", "mlflow", "models", "serve", "--env-manager", "local"),
                *("-m", str(folder.parent / "mlflow"), "--port", str(port)),
            ],
            "/invocations",
            lambda file, pixels: (
                json.dumps({"inputs": pixels[None].tolist()}).encode(),
                "application/json",
            ),
        ),
        Server(
            "fastapi",
            lambda folder, port: [
                *(own, "-m", "uvicorn", "tests.bench.peers.serve_fastapi:app"),
                *("--port", str(port), "--no-access-log", "--log-level", "error"),
            ],
            "/predict",
            in_a_form,
        ),
        Server(
            "ours",
            lambda folder, port: [
                *(own, "-m", "search.serve", str(folder), "--port", str(port)),
            ],
            "/predict",
            lambda file, pixels: (file, "application/octet-stream"),
        ),
    ]
    if litserve is not None:
        script = str(PEERS / "serve_litserve.py")
        made = Server(
            "litserve",
            lambda folder, port: [litserve, script, str(folder), str(port)],
            "/predict",
            lambda file, pixels: (
                json.dumps({"image": base64.b64encode(file).decode()}).encode(),
                "application/json",
            ),
        )
        found.insert(1, made)
    if before is not None:
        # Safe, so that neither it nor its workers import this tree's packages.
        safe = ["env", "PYTHONSAFEPATH=1", before, "-m", "search.serve"]
        ours = found.pop()
        earlier = replace(
            ours,
            title="before",
            words=lambda folder, port: [*safe, str(folder), "--port", str(port)],
        )
        found += [earlier, ours]
    return found


def pair(without: str, promised: str) -> list[Server]:
    """Return our server of two promoted models, the second as `ours`."""

    def serving(title: str, model: str) -> Server:
        return Server(
            title,
            lambda folder, port: [sys.executable, "-m", "search.serve", model, "--port", str(port)],
            "/predict",
            lambda file, pixels: (file, "application/octet-stream"),
        )

    return [serving("without", without), serving("ours", promised)]


def in_a_form(file: bytes, pixels: Any) -> tuple[bytes, str]:
    """Return an image as a browser sends it."""
    head = b'Content-Disposition: form-data; name="file"; filename="a.png"'
    parts = [b"--b0", head, b"Content-Type: image/png", b"", file, b"--b0--", b""]
    return b"\r\n".join(parts), "multipart/form-data; boundary=b0"


def exported(name: str, folder: Path) -> Path:
    """Export a network that was trained for a moment, for ONNX Runtime and for MLflow."""
    import torch

    from search.tracking.model_registry import save
    from trainables.checkpoints import checkpoint
    from trainables.config import TrialConfig
    from trainables.datasets.arrays import Dataset, Part
    from trainables.export.export import export
    from trainables.training.loop import Training

    changes = dict(NETWORKS[name])
    side, channels = changes.pop("side", 8), changes.pop("channels", 1)
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)

    def part(count: int) -> Part:
        images = generator.integers(0, 256, (count, side, side, channels), dtype=np.uint8)
        return Part(images, np.arange(count) % 10)

    classes = tuple(str(number) for number in range(10))
    dataset = Dataset("drawn", classes, part(40), part(20), part(20), "fingerprint")
    config = TrialConfig().override({**changes, "epochs": 1, "precision": "fp32", "batch_size": 20})
    training = Training(config, dataset)
    list(training.epochs())
    path = checkpoint.save(folder / "saved", training.state(), {})
    found = export(config, dataset, path, folder / "model", onnx=True)
    save(folder / "mlflow", found, model_id="m-0", run_id=None)
    return folder / "model"


@contextmanager
def started(
    server: Server, folder: Path, port: int, request: tuple[bytes, str]
) -> Iterator[tuple[float, psutil.Process]]:
    """Start a server; gives the seconds until its first answer, and its first process."""
    began = time.monotonic()
    process = subprocess.Popen(
        server.words(folder, port),
        env={
            **os.environ,
            "MODEL_FOLDER": str(folder),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # MLflow's uvicorn
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until_answered(f"http://127.0.0.1:{port}{server.path}", request, process)
        yield time.monotonic() - began, psutil.Process(process.pid)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until_answered(
    url: str, request: tuple[bytes, str], process: "subprocess.Popen[bytes]"
) -> None:
    """Ask until an answer comes."""
    for _ in range(6000):
        asked = urllib.request.Request(url, request[0], {"Content-Type": request[1]})
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                answer.read()
                return
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{url}: {error.code} {error.read()[:300]!r}") from error
        except OSError as error:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args!r} ended") from error
            time.sleep(0.01)
    raise RuntimeError(f"no answer from {url}")


def load(url: str, body: Path, kind: str, clients: int, seconds: float) -> dict[str, float]:
    """Ask over so many connections for a time; return requests a second, p50 and p99 in ms.

    Those that are refused do not count; a server that answers none counts as if it had one.
    """
    script = body.with_suffix(".lua")
    script.write_text(LUA)
    words = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "20s"]
    done = subprocess.run(
        [*words, "-s", str(script), url],
        env={**os.environ, "BODY": str(body), "KIND": kind},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(re.findall(r"^\{.*\}$", done.stdout, re.MULTILINE)[-1])
    return {
        "rps": max(1, found["requests"] - found["errors"]) / found["us"] * 1e6,
        "p50": found["p50"] / 1000,
        "p99": found["p99"] / 1000,
    }


Figures = dict[tuple[str, str], list[float]]
"""The figures of each round, by server and name."""


@dataclass(frozen=True)
class Asked:
    """A server that runs, and what it is asked."""

    server: Server
    process: psutil.Process
    url: str
    body: Path
    kind: str

    def load(self, clients: int, seconds: float) -> dict[str, float]:
        """Ask it; see `load`. `cpu` is its processor time for a request in ms."""
        before = processor_s(self.process)
        found = load(self.url, self.body, self.kind, clients, seconds)
        found["cpu"] = (processor_s(self.process) - before) / found["rps"] / seconds * 1000
        return found


def image_of(model: Path) -> tuple[bytes, Any]:
    """Return the file and the pixels of an image that is sent to the servers of a network."""
    about = json.loads((model / "about.json").read_text())
    pixels = np.random.default_rng(1).integers(0, 256, about["image"], dtype=np.uint8)
    image, file = Image.fromarray(pixels.squeeze()), io.BytesIO()
    if model.parent.name == "photographs":
        image.resize(PHOTOGRAPH, Image.Resampling.BICUBIC).save(file, "JPEG")
    else:
        image.save(file, "PNG")
    return file.getvalue(), pixels


def measured(
    compared: list[Server],
    model: Path,
    image: tuple[bytes, Any],
    work: Path,
    rounds: int,
    seconds: float,
) -> Figures:
    """Measure servers of one network, which are sent the file and the pixels of an image."""
    figures: Figures = {}
    with ExitStack() as stack:
        running = []
        for server in compared:
            progress(f"starting {server.title}")
            body, kind = server.body(*image)
            path = work / f"{server.title}.body"
            path.write_bytes(body)
            (port,) = free_ports(1)
            begun = started(server, model, port, (body, kind))
            first_s, process = stack.enter_context(begun)
            figures[server.title, "first"] = [first_s]
            url = f"http://127.0.0.1:{port}{server.path}"
            running.append(Asked(server, process, url, path, kind))
        for clients in CLIENTS:
            for number in range(rounds + 1):
                progress(f"{clients} clients, round {number} of {rounds}")
                for one in running:
                    found = one.load(clients, seconds)
                    for name, value in found.items() if number else ():  # the first warms
                        title = one.server.title
                        figures.setdefault((title, f"{name} {clients}"), []).append(value)
    return figures


def processor_s(process: psutil.Process) -> float:
    """Return the processor time of a process and all below it."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def rows(network: str, titles: list[str], figures: Figures) -> Iterator[str]:
    """Yield the lines of a network's table."""
    for title in titles:
        cells = [f"{statistics.median(figures[title, 'first']):.1f} s"]
        for clients in CLIENTS:
            rps, p50, p99, cpu = (
                statistics.median(figures[title, f"{name} {clients}"])
                for name in ("rps", "p50", "p99", "cpu")
            )
            compared = ratio(title, clients, figures)
            cells.append(f"{rps:,.0f} ({compared}); {p50:.1f}; {p99:.1f}; {cpu:.2f}")
        yield f"| {network} | {title} | {' | '.join(cells)} |"


def ratio(title: str, clients: int, figures: Figures) -> str:
    """Return how many times as many requests ours answers, round by round."""
    name = f"rps {clients}"
    found = [
        own / other
        for own, other in zip(figures.get(("ours", name), []), figures[title, name], strict=False)
    ]
    return "1x" if title == "ours" or not found else f"ours {statistics.median(found):.2f}x"


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument(
        "--litserve", metavar="PYTHON", help="a Python that has litserve (default: left out)"
    )
    parser.add_argument(
        "--before", metavar="PYTHON", help="a Python that has another version (default: left out)"
    )
    parser.add_argument(
        "--pair",
        nargs=3,
        metavar=("WITHOUT", "WITH", "IMAGE"),
        help="the folders of two promoted models of one network, and a file to send (default: the "
        "networks)",
    )
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of each load")
    parser.add_argument("--models", metavar="DIR", help="where exported networks are kept")
    parser.add_argument("--only", action="append", metavar="SERVER", help="measure only this one")
    return parser.parse_args()


def main() -> None:
    """Measure and print network by network."""
    args = options()
    compared = pair(*args.pair[:2]) if args.pair else servers(args.litserve, args.before)
    if args.only:
        compared = [server for server in compared if server.title in args.only]
    counts = " | ".join(f"{clients} clients" for clients in CLIENTS)
    print(f"| network | server | first answer | {counts} |")
    print("|---|---|---|" + "---|" * len(CLIENTS), flush=True)
    for network in ["pair"] if args.pair else args.networks:
        with tempfile.TemporaryDirectory() as folder:
            if args.pair:
                model, image = Path(args.pair[0]), (Path(args.pair[2]).read_bytes(), None)
            else:
                kept = Path(args.models or folder) / network
                model = kept / "model" if kept.exists() else exported(network, kept)
                image = image_of(model)
            figures = measured(compared, model, image, Path(folder), args.rounds, args.seconds)
        for line in rows(network, [one.title for one in compared], figures):
            print(line, flush=True)
    print(
        "\nRequests a second; p50, p99 and the server's processor time for a request, each in ms."
    )
    print(f"Load {os.getloadavg()[0]:.1f}. {machine()}")


if __name__ == "__main__":
    main()
