"""What a resume compares, refuses and takes over; resuming itself is proved in `test_driver.py`
(every line) and `tests/faults`.
"""

import copy
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from cluster.errors import Refused
from search.cli.parser import parse_request
from search.design.budget import Budget, limit
from search.design.experiment import Experiment
from search.journal.events import Evidence, SessionStart, Started, Tested, Unevaluated
from search.journal.journal import Journal, JournalError
from search.journal.lease import LeaseHeld
from search.journal.provenance import provenance
from search.journal.result import NO_TIME, SearchResult
from search.operations.continuation import UsageLimits, Where
from search.operations.refine import RefineRequest
from search.operations.resume import (
    ResumeRequest,
    check_trials,
    experiment_of,
    is_done,
    resume,
)
from search.operations.run import experiment_of as experiment_of_run
from search.operations.select import SelectRequest
from search.preflight.changes import changes
from search.preflight.overrides import apply_overrides
from search.run import RunOptions, parse_options
from search.run import parser as run_parser
from search.sessions.ending import exit_code, wind_up
from search.space import Choice, Float, Int, SearchSpace
from search.spaces.find import sha256_of
from search.values.wording import DECODED_OTHERWISE
from search.views.base import ViewContext
from search.views.opened import OpenViews
from search.views.outcome import mlflow_command
from search.views.terminal import Terminal
from tests.conftest import Command
from tests.search.conftest import Inline
from tests.support.played import OpenDriver, changed, play, reopened, started_event
from trainables.catalog.entries import DECODING
from trainables.catalog.models import MODELS
from trainables.training.loop import Training

SPACE = """
from search.space import Choice, SearchSpace
space = SearchSpace({"optimizer.lr": Choice(0.01, 0.1)}, \
base={"model.name": "deep_cnn", "epochs": 2})
"""


def facts(**experiment: Any) -> SessionStart:
    return SessionStart(
        experiment=experiment,
        data={"fingerprint": "f00d"},
        provenance={"code": "c0de", "version.torch": "2.13", "host": "here", "user": "me"},
    )


@pytest.mark.parametrize(
    "space",
    [
        SearchSpace(
            {"optimizer.lr": Float(1e-4, 1e-1, log=True), "batch_size": Int(16, 64, step=16)},
            base={"epochs": 3},
            trials=7,
        ),
        SearchSpace(
            {
                "optimizer.name": Choice("adam", "sgd"),
                "optimizer.momentum": Float(0.5, 0.9, when={"optimizer.name": "sgd"}),
                "model.layers": Choice(5, 10, when={"optimizer.name": ("sgd", "adam")}),
            },
            reference={"optimizer.lr": 0.1},
            reference_title="somebody's",
        ),
    ],
)
def test_a_space_comes_back_from_its_description(space: SearchSpace) -> None:
    assert SearchSpace.from_description(json.loads(json.dumps(space.describe()))) == space


def test_an_experiment_comes_back_from_its_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = (
        "--space table3 --name s --algorithm random --trials 7 --max-epochs 2 --seed 4 "
        "--set optimizer.name=sgd --set batch_size=32 --cpus-per-trial 2"
    )
    words += (
        " --budget 9s --budget 1e3epochs --price 1.5 --min-gain 0.25 "
        "--concurrency 1 --hang-timeout 5"
    )
    experiment = experiment_of_run(parse_options(words.split()).request)
    again = Experiment.from_description(
        "s", json.loads(json.dumps(experiment.describe())), Path("searches")
    )
    assert changed(again, tracking=experiment.tracking) == experiment


def test_what_decides_a_search_is_compared_and_what_only_says_where_it_runs_is_not() -> None:
    before = facts(
        seed=1,
        space={"domains": {"optimizer.lr": {"options": [0.1, 0.2]}}},
        address="local",
        concurrency=2,
        base={"data": {"root": "/a"}, "epochs": 3},
    )
    assert changes(before, SessionStart.from_json(json.loads(json.dumps(before.to_json())))) == []
    now = facts(
        seed=2,
        space={"domains": {"optimizer.lr": {"options": (0.1, 0.3)}}},
        address="far:1",
        concurrency=9,
        base={"data": {"root": "/b"}, "epochs": 3},
    )
    origin = now.provenance | {"version.torch": "3.0", "host": "there", "code": "2nd"}
    now = replace(now, data={"fingerprint": "beef"}, provenance=origin)
    assert changes(before, now) == [
        "  seed: 1 -> 2",
        "  space.domains.optimizer.lr.options: [0.1, 0.2] -> [0.1, 0.3]",
        "  data.fingerprint: f00d -> beef",
        "  code: c0de -> 2nd",
        "  version.torch: 2.13 -> 3.0",
    ]


def test_pixels_that_another_version_decoded_are_no_images_that_changed() -> None:
    before, now = facts(), facts()
    now = replace(now, data={"fingerprint": "f00d", "decoding": DECODING})
    assert changes(before, now) == []  # none of the images is decoded otherwise
    now = replace(now, data={"fingerprint": "beef", "decoding": DECODING})
    remedy = "If the images are the same, continue with that version or with --allow-change"
    told = [f"  data.fingerprint: f00d -> beef ({DECODED_OTHERWISE}. {remedy})"]
    assert changes(before, now) == told
    before.data["decoding"] = 2  # which read fewer formats
    assert changes(before, now) == told
    before.data["decoding"] = DECODING
    assert changes(before, now) == ["  data.fingerprint: f00d -> beef"]


def test_the_number_of_copies_removed_is_no_change_beside_the_fingerprint() -> None:
    now = replace(facts(), data={"fingerprint": "f00d", "removed": 3})
    assert changes(facts(), now) == []


def test_other_weights_to_begin_with_are_a_change_where_both_are_known() -> None:
    before = replace(facts(), weights={"resnet18.pth": "1", "alexnet.pth": "2"})
    now = replace(facts(), weights={"resnet18.pth": "3"})
    assert changes(before, now) == ["  weights.resnet18.pth: 1 -> 3"]
    assert changes(facts(), now) == []  # a journal of an earlier version


def test_a_search_of_before_there_was_sure_goes_on_by_its_own_rule(experiment: Experiment) -> None:
    """Trials that wait at the first epoch find their rung, however long the longest trial is."""
    long = changed(
        experiment,
        max_epochs=None,
        base=experiment.base.override({"epochs": 400}),
        space=experiment.space.fixed({"epochs": 400}),
        scheduler="asha",
    )
    described = {name: value for name, value in long.describe().items() if name != "sure"}
    again = Experiment.from_description("s", described, long.storage)
    assert (again.sure, again.grace) == (0.0, 1)
    before, now = (SessionStart(experiment=one) for one in (described, again.describe()))
    assert changes(before, now) == []
    assert Experiment.from_description("s", long.describe(), long.storage).grace is None


def test_many_changes_are_counted() -> None:
    lines = changes(facts(**{f"k{number}": 0 for number in range(50)}), facts())
    assert len(lines) == 21
    assert lines[-1] == "  and 30 more"


def test_the_code_that_decides_has_a_fingerprint() -> None:
    assert len(provenance()["code"]) == 12


def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> SearchResult:
    """The result of a search that was begun with this command line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(SPACE)
    experiment = experiment_of_run(
        parse_request(
            run_parser(), RunOptions, ["--space", "my.py:space", "--name", "s", *words]
        ).request
    )
    journal = Journal(experiment.folder)
    journal.append(
        Started(
            name="s",
            experiment=experiment.describe(),
            space_sha256=sha256_of("my.py:space"),
            **started_event(),
        )
    )
    journal.close()
    return SearchResult.read(experiment.folder)


def given(**values: Any) -> ResumeRequest:
    return ResumeRequest(name="s", **values)


def within(*limits: str) -> UsageLimits:
    return UsageLimits(budget=tuple(map(limit, limits)))


def test_a_resume_is_the_same_experiment_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = recorded(tmp_path, monkeypatch, "--set", "batch_size=16")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    experiment = experiment_of(given(storage=tmp_path / "searches"), result)
    assert changes(result.started, replace(result.started, experiment=experiment.describe())) == []
    assert experiment.tracking == f"sqlite:///{tmp_path}/mlflow.db"
    assert experiment.folder == tmp_path / "searches" / "s"


def test_a_changed_space_file_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = recorded(tmp_path, monkeypatch)
    (tmp_path / "my.py").write_text(
        SPACE.replace("0.1)", "0.2)").replace('"epochs": 2', '"epochs": 3')
    )
    with pytest.raises(
        Refused,
        match=r"the space file '.*my\.py' has changed since the search read it\. Undo the "
        r"change, or pass "
        r"--space .*my\.py:space to see what has changed\. To continue with the change, ",
    ):
        experiment_of(given(allow_change=True), result)
    experiment = experiment_of(given(space="my.py:space"), result)
    found = changes(result.started, replace(result.started, experiment=experiment.describe()))
    assert "  space.domains.optimizer.lr.options: [0.01, 0.1] -> [0.01, 0.2]" in found
    assert "  base.epochs: 2 -> 3" in found
    recorded_without_sum = copy.deepcopy(result)
    recorded_without_sum.started = replace(recorded_without_sum.started, space_sha256=None)
    assert experiment_of(given(), recorded_without_sum).space.domains["optimizer.lr"] == Choice(
        0.01, 0.1
    )
    (tmp_path / "my.py").unlink()
    with pytest.raises(ValueError, match="is not an existing"):
        experiment_of(given(space="my.py:space", allow_change=True), result)
    assert experiment_of(given(), result).space.domains["optimizer.lr"] == Choice(0.01, 0.1)


OTHER = SPACE.replace("optimizer.lr", "batch_size").replace("0.01, 0.1", "16, 32, 64")


@pytest.mark.parametrize("algorithm", ["random", "grid", "bayes"])
def test_another_space_is_searched_to_its_last_point(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_driver: OpenDriver
) -> None:
    """The trials of the space before use up none of its points."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(SPACE)
    (tmp_path / "other.py").write_text(OTHER)
    words = "--space my.py:space --name s --scheduler fifo --algorithm"
    begun = experiment_of_run(parse_options([*words.split(), algorithm]).request)
    driver = play(open_driver(begun))
    assert len(driver.result.trials) == 2
    options = given(space="other.py:space", trials=9, allow_change=True)
    experiment = experiment_of(options, driver.result)
    assert experiment.planned_trials == 5
    assert not is_done(driver.result, experiment, options)
    assert experiment.capped == (
        "--trials 9 is too many: the space has 3 points, and each is tried once. The search has "
        "5 trials in total, including 2 trials of other spaces"
    )
    described = json.loads(json.dumps(experiment.describe()))
    assert Experiment.from_description("s", described, begun.storage).planned_trials == 5
    assert "  outside" not in "".join(
        changes(driver.result.started, replace(driver.result.started, experiment=described))
    )
    driver.policy.experiment = experiment
    driver.journal.close()
    again = play(reopened(driver))
    batches = [trial.params.get("batch_size") for trial in again.result.trials.values()]
    assert sorted(batches[2:]) == [16, 32, 64]
    result = again.result
    assert result.best is not None
    result.is_drawn = True
    result.tested = Tested(trial=result.best.trial, epoch=result.best.best_epoch, test={})
    assert is_done(result, experiment, given(trials=9))


def test_a_planted_journal_runs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who can write the storage can write a space file there, and name it, with its sum, in the
    journal.
    """
    result = recorded(tmp_path, monkeypatch)
    planted = tmp_path / "planted.py"
    planted.write_text("from pathlib import Path\nPath('was here').touch()\n" + SPACE)
    result.started.experiment["space_source"] = f"{planted}:space"
    result.started = replace(result.started, space_sha256=sha256_of(f"{planted}:space"))
    assert experiment_of(given(), result).space.domains["optimizer.lr"] == Choice(0.01, 0.1)
    assert not Path("was here").exists()


def test_what_is_asked_for_on_the_command_line_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = recorded(tmp_path, monkeypatch, "--trials", "1")
    where = Where(
        concurrency=1,
        hang_timeout=5.0,
        tracking="sqlite:///other.db",
        data_root=Path("/moved"),
        download=True,
    )
    request = given(trials=2, limits=within("60s"), seed=8, where=where)
    experiment = experiment_of(request, result)
    assert (
        experiment.planned_trials,
        experiment.concurrency,
        experiment.budget,
        experiment.hang_timeout,
    ) == (2, 1, Budget((limit("60s"),)), 5)
    assert (experiment.tracking, experiment.seed, experiment.base.data.root) == (
        "sqlite:///other.db",
        8,
        "/moved",
    )
    assert experiment.download
    assert not experiment_of(given(), result).download
    assert changes(result.started, replace(result.started, experiment=experiment.describe())) == [
        "  seed: 0 -> 8"
    ]


@pytest.mark.parametrize("request_type", [ResumeRequest, SelectRequest, RefineRequest])
def test_who_is_told_to_fetch_weights_with_download_can(
    request_type: type[ResumeRequest | SelectRequest | RefineRequest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = recorded(tmp_path, monkeypatch, "--trials", "1")
    begun = Experiment.from_description("s", result.started.experiment, tmp_path)
    request = request_type(name="s", where=Where(download=True))
    assert apply_overrides(begun, request.overrides(), result).download


def test_a_login_in_the_tracking_uri_is_never_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@h:5000")
    result = recorded(tmp_path, monkeypatch, "--tracking", "http://me:secret@h:5000")
    assert "secret" not in (tmp_path / "searches" / "s" / "journal.jsonl").read_text()
    assert experiment_of(given(), result).tracking == "http://me:secret@h:5000"


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        JournalError,
        match=r"there is no search at '.*s'\. Check the name and --storage, or "
        r"start a search with 'python -m search.run'\.",
    ):
        resume(given(storage=tmp_path))


def test_a_trial_that_the_journal_does_not_know_means_that_its_end_is_missing(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = open_driver(experiment)
    driver.suggest()
    for name in ("t0001", "t0002"):
        (experiment.folder / "trials" / name).mkdir(parents=True)
    with pytest.raises(
        Refused,
        match=r"the end of '.*journal.jsonl' is missing: '.*trials' contains t0002, "
        r"which the journal does not mention",
    ):
        check_trials(experiment.home, experiment.home.trials(), driver.result)
    (experiment.folder / "trials" / "t0002").rmdir()
    check_trials(experiment.home, experiment.home.trials(), driver.result)


def test_a_search_is_done_when_nothing_is_left_to_train_to_test_or_to_draw(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(open_driver(changed(experiment, trials=2)))
    result = driver.result
    assert not is_done(result, driver.experiment, given())
    assert result.best is not None
    driver.journal.append(Tested(trial=result.best.trial, epoch=result.best.best_epoch, test={}))
    assert not is_done(result, driver.experiment, given())
    driver.journal.append(Evidence(trial="", file="pictures", path=""))
    assert is_done(result, driver.experiment, given())
    assert not is_done(result, driver.experiment, given(trials=5))
    result.outcome = "interrupted"
    assert not is_done(result, driver.experiment, given())


def test_with_more_time_a_resume_evaluates_what_there_was_no_time_for(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """The trials had all ended when time was up. What cannot be evaluated for another reason is not
    tried again for that.
    """
    driver = play(open_driver(changed(experiment, trials=2)))
    result = driver.result
    assert result.best is not None
    driver.journal.append(Tested(trial=result.best.trial, epoch=result.best.best_epoch, test={}))
    driver.journal.append(Evidence(trial="", file="pictures", path=""))
    driver.journal.append(Unevaluated(reasons={"it is damaged": ["t0001"]}))
    assert is_done(result, driver.experiment, given(limits=within("10m")))
    driver.journal.append(Unevaluated(reasons={NO_TIME: ["t0001"]}))
    assert is_done(result, driver.experiment, given())
    assert not is_done(result, driver.experiment, given(limits=within("10m")))
    assert reopened(driver).result.unevaluated == {}


def test_a_trial_whose_checkpoint_is_lost_is_not_the_best(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    """The next best is tested in its stead; a person is asked to look, and a resume looks again."""
    driver = play(open_driver(changed(experiment, trials=2)))
    result = driver.result
    first, second = result.ranking
    driver.journal.append(
        Tested(
            trial=second.trial,
            epoch=second.best_epoch,
            test={},
            passed_over={first.trial: "damaged"},
        )
    )
    assert result.best is second
    assert result.ranking[0] is first
    assert result.is_tested
    assert not is_done(result, driver.experiment, given())
    assert exit_code(result, [], []) == 5
    assert exit_code(result, [2], []) == 130


@pytest.mark.parametrize("verb", ["resume", "select", "promote", "status", "sync", "report", "why"])
def test_a_verb_on_a_search_that_is_not_there_says_so_in_a_line(
    call: Command, tmp_path: Path, verb: str
) -> None:
    done = call(f"search.{verb}", "nowhere", *["t0001"] * (verb == "why"))
    assert done.returncode == 2
    assert done.stderr == (
        f"error: there is no search at '{tmp_path}/searches/nowhere'. Check the name and "
        "--storage, or start a search with 'python -m search.run'.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_is_being_run_is_refused_before_anything_is_said_to_start(
    open_driver: OpenDriver,
    experiment: Experiment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    play(open_driver(experiment), events=20)
    request = ResumeRequest(
        name=experiment.name,
        storage=experiment.storage,
        allow_change=True,
        where=Where(tracking=f"sqlite:///{tmp_path}/m.db"),
    )
    with experiment.home.lease(), pytest.raises(LeaseHeld, match="is being run by process"):
        resume(request)
    assert "starting Ray" not in capsys.readouterr().err


def test_a_search_that_is_over_and_being_run_is_refused_in_one_line(
    open_driver: OpenDriver,
    experiment: Experiment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its selection runs: that nothing is left to do would not be all that is true."""
    play(open_driver(experiment))
    monkeypatch.setattr("search.operations.resume.is_done", lambda *given: True)
    with experiment.home.lease(), pytest.raises(LeaseHeld, match="is being run by process"):
        resume(ResumeRequest(name=experiment.name, storage=experiment.storage))
    assert capsys.readouterr().err == ""


def test_a_price_that_limits_nothing_is_noted(
    open_driver: OpenDriver,
    experiment: Experiment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    play(open_driver(experiment))
    monkeypatch.setattr("search.operations.resume.is_done", lambda *given: True)
    limits = UsageLimits(price=2.0)
    with experiment.home.lease(), pytest.raises(LeaseHeld):
        resume(ResumeRequest(name=experiment.name, storage=experiment.storage, limits=limits))
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("note: --price 2 does not limit the search")


def test_in_a_hurry_neither_the_study_nor_pictures_are_written(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    driver = play(open_driver(changed(experiment, algorithm="bayes")), events=20)
    driver.journal.close = lambda: None  # type: ignore[method-assign]  # the fixture does that
    tracker: Any = SimpleNamespace(close=lambda patience_s: None)
    driver.close("interrupted", "stopped by SIGTERM")
    with OpenViews(ViewContext(Terminal(stderr=True), driver=driver)) as views:
        wind_up(driver, tracker, views, [], look=lambda: None, hurry=True)
    assert [path.name for path in experiment.folder.iterdir()] == ["journal.jsonl"]
    assert driver.result.outcome == "interrupted"


def test_where_mlflow_has_nothing_no_page_of_it_is_named() -> None:
    nowhere = {"tracking_uri": "http://127.0.0.1:9", "experiment_id": "", "parent_run_id": ""}
    assert mlflow_command(nowhere) == "http://127.0.0.1:9 does not contain it yet"


TRANSFER = (
    "--space transfer --data folder:pets --weights weights --name pets --set model.input_size=32 "
    "--set batch_size=8 --max-epochs 1 --trials 2 --device cpu"
)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder of two classes; beside it weights for two of the three families of `transfer`."""
    generator = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (tmp_path / "pets" / kind).mkdir(parents=True)
        for number in range(20):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / kind / f"{number}.png")
    (tmp_path / "weights").mkdir()
    for name in ("mobilenet_v2", "squeezenet1_0"):
        weights = models.get_model(name).state_dict()
        torch.save(weights, tmp_path / "weights" / MODELS[name].weights)
    return tmp_path


@pytest.fixture
def interrupt_first_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the first epoch is trained."""
    train, epochs = Training.next_epoch, iter(range(10**6))

    def next_epoch(training: Training) -> Any:
        if next(epochs) == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return train(training)

    monkeypatch.setattr(Training, "next_epoch", next_epoch)


@pytest.mark.slow
@pytest.mark.usefixtures("interrupt_first_epoch")
def test_a_search_that_left_a_family_out_continues_without_it(pets: Path, inline: Inline) -> None:
    """Its weights may be there by then, or those of another may be gone."""
    done, _ = inline("run", *TRANSFER.split())
    assert done.returncode == 130
    assert "left out: resnet18, whose weights are not in" in done.stderr
    done, summary = inline("resume", "pets")
    assert done.returncode in (0, 6), done.stderr  # the labels were drawn: no better than guessing
    assert summary["trials"] == {"completed": 2}
    torch.save(models.resnet18().state_dict(), pets / "weights" / MODELS["resnet18"].weights)
    done, summary = inline("resume", "pets", "--trials", "6")
    assert done.returncode in (0, 6), done.stderr
    result = SearchResult.read(pets / "searches" / "pets")
    assert {trial.config["model"]["name"] for trial in result.trials.values()} == {
        "mobilenet_v2",
        "squeezenet1_0",
    }
    done, summary = inline("select", "pets", "--top", "2", "--seeds", "2")
    assert done.returncode in (0, 6), done.stderr
    done, summary = inline("refine", "pets", "--rounds", "1", "--trials", "1")
    assert done.returncode in (0, 6), done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("interrupt_first_epoch")
def test_weights_that_are_gone_are_asked_back(pets: Path, inline: Inline, call: Command) -> None:
    """No option of `search.resume` names others: it says where they were."""
    inline("run", *TRANSFER.split())
    place = pets / "weights" / MODELS["mobilenet_v2"].weights
    place.rename(pets / "moved.pth")
    done = call("search.resume", "pets", "--tracking", f"sqlite:///{pets}/mlflow.db")
    assert done.returncode == 2
    assert done.stderr == (
        "error: the weights of mobilenet_v2, with which 'pets' started, are missing at "
        f"'{place}'. Restore them there.\n"
    )
