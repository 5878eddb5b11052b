"""Learning from corrected images, from the records to the new champion."""

import html
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from cluster.errors import NotReady
from cluster.storage.bucket import Bucket
from search.api import load as opened
from search.api import run
from search.feedback.learning.champion import find_champion
from search.feedback.learning.expected import trained_image_names
from search.feedback.learning.registering import ChosenChallenger, watched_text
from search.feedback.learning.rounds import info_of, rounds_of
from search.feedback.monitoring.findings import find_changes
from search.feedback.monitoring.window import load_window
from search.feedback.records import EARLIER, RecordedAnswer, Records, RecordsInfo
from search.improve import main
from search.journal.result import PAGE, SearchResult
from search.journal.store import DECISION, home
from search.monitor import main as monitor
from search.operations.continuation import Where
from search.operations.improve import ORIGINS, ImproveRequest
from search.promote import main as promote
from search.space import Choice, Float, SearchSpace
from search.tracking.model_registry import ONNX, Registered
from search.trained.source import ModelSource
from search.views.outcome import best_table
from tests.conftest import MakeOnce
from trainables.config import DataConfig
from trainables.datasets.load import load
from trainables.export import reference

KNN = SearchSpace({"model.neighbours": Choice(1, 3)}, base={"model.name": "knn"})
NETWORK = SearchSpace(
    {"optimizer.lr": Float(0.001, 0.01, log=True)},
    base={"model.name": "table2", "model.width": 8, "epochs": 1, "precision": "fp32"},
    trials=2,
)
PAIR = SearchSpace({"optimizer.lr": Choice(0.003, 0.01)}, base=NETWORK.base, trials=2, combine=2)
CLASSES = tuple("0123456789")


@dataclass(frozen=True)
class Place:
    """A folder with a champion, and the records of what it met."""

    folder: Path
    met: Records

    def improve(self, *words: str) -> int:
        return main([*words, "--from", "met", "--tracking", "sqlite:///mlflow.db"])


Champion = Callable[[str], Place]


@pytest.fixture
def champion(
    make_once: MakeOnce, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Champion:
    """Copy a folder with a promoted model of digits, searched once for all tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(name: str) -> Place:
        def fill(folder: Path) -> None:
            shutil.copy(empty_database, folder)
            with monkeypatch.context() as patched:
                patched.chdir(folder)
                patched.setattr("search.decisions.combining.CLOSE", 1000)
                patched.setattr("search.decisions.combining.BEHIND", 1000)
                space = {"knn": KNN, "network": NETWORK, "pair": PAIR}[name]
                tracking = f"sqlite:///{folder}/mlflow.db"
                run(
                    space=space,
                    data="digits",
                    executor="inline",
                    name=name,
                    quiet=True,
                    tracking=tracking,
                )
                assert promote([name]) == 0

        place = tmp_path / "place"
        shutil.copytree(make_once(f"champion-{name}", fill), place)
        monkeypatch.chdir(place)
        met = Records.at(Path("met"))
        met.begin(RecordsInfo(f"models:/{name}", CLASSES))
        return Place(place, met)

    return make


def turned(seed: int = 0) -> tuple[Any, Any]:
    """Return digits that no part has: upside down and with a little noise, and what they are."""
    digits = load(DataConfig())
    noise = np.random.default_rng(seed).integers(-9, 10, digits.train.shape)
    images = np.clip(digits.train.images[:, ::-1, ::-1].astype(int) + noise, 0, 255)
    return images.astype(np.uint8), digits.train.targets


def correct(place: Place, count: int = 150, *, wrong: float = 0.0, by: str = "api") -> None:
    """Correct so many images that the champion has met, some of them wrongly."""
    generator = np.random.default_rng(0)
    answers = []
    for number, (image, target) in enumerate(
        zip(*(some[:count] for some in turned()), strict=True)
    ):
        label = target + (generator.integers(1, 10) if generator.random() < wrong else 0)
        name = keep(place, image)
        answers.append(RecordedAnswer(str(number), number + 1, name, "1", (0.1,) * 10, "usual"))
        place.met.correct(name, CLASSES[label % 10], by)
    place.met.write_answers(answers)


def keep(place: Place, image: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "png")
    return place.met.keep_image(file.getvalue())


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register nothing, which takes seconds."""
    monkeypatch.setattr(
        "search.operations.improve.register", lambda *_: Registered("knn", "2", "1")
    )


def aliases(name: str) -> dict[str, str]:
    found = MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db").get_registered_model(name).aliases
    return {alias: str(version) for alias, version in found.items()}


def searched() -> SearchResult:
    (folder,) = Path("searches").glob("*-improved-*")
    return SearchResult.read(folder)


def test_a_champion_learns_from_what_it_met(
    champion: Champion, capsys: pytest.CaptureFixture[str]
) -> None:
    place = champion("knn")
    correct(place)
    assert place.improve("models:/knn@champion", "--margin", "5", "--json") == 0
    said = capsys.readouterr()
    told = json.loads(said.out.splitlines()[-1])
    assert told["outcome"] == "champion"
    assert told["new"]["low"] > 0.05
    assert told["version"] == "2"
    assert aliases("knn") == {"champion": "2", "challenger": "2"}
    assert "it is the new champion" in said.err
    version = MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db").get_model_version("knn", "2")
    assert version.tags["search.name"] == told["search"]
    assert version.tags["improves.version"] == "1"
    assert "new images, held out" in version.description
    result = searched()
    origins = json.loads((Path("searches") / result.name / ORIGINS).read_text())
    assert len(origins["images"]) == sum(told["images"].values())
    assert {one["by"] for one in origins["images"]} == {"api"}
    assert result.started.data["train"] == 1079 + told["images"]["trained"]
    assert told["watched"]["trained"] == told["images"]["trained"]
    kept_from_training = told["images"]["held"] + told["images"]["choosing"]
    assert told["watched"]["met"] == kept_from_training
    assert (
        f"search.monitor compares new images with {kept_from_training} images received" in said.err
    )
    assert list(best_table(result).columns[1].cells)[-1] == "in the decision"
    page = html.unescape((Path("searches") / result.name / PAGE).read_text())
    assert "it is the new champion" in page
    assert "old test images: " in page
    assert "sealed" not in page

    # Called again, it trains and registers nothing.
    assert place.improve("models:/knn/1", "--margin", "5", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == told
    # Nor if it was killed before it had noted what it registered, by the new champion's name.
    noted = Path("searches") / result.name / DECISION
    noted.write_text(json.dumps({**told, "version": None, "text": told["text"][:-1]}))
    for _ in range(2):
        assert place.improve("models:/knn@champion", "--margin", "5", "--json") == 0
        again = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (again["version"], again["outcome"]) == ("2", "champion")
    assert aliases("knn") == {"champion": "2", "challenger": "2"}


@pytest.mark.slow
def test_the_members_of_an_ensemble_are_trained_again_and_combined(
    champion: Champion, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.decisions.combining.CLOSE", 1000)
    monkeypatch.setattr("search.decisions.combining.BEHIND", 1000)
    place = champion("pair")
    (before,) = (SearchResult.read(folder) for folder in Path("searches").glob("pair"))
    assert before.is_ensemble_chosen
    correct(place)
    words = ("models:/pair@champion", "--margin", "50", "--json", "--challenger")
    assert place.improve(*words, "--dry-run") == 0
    assert "the 2 members of the champion's ensemble trained from scratch" in said_by(capsys)
    assert place.improve(*words) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    result = searched()
    rates = {trial.params["optimizer.lr"] for trial in result.trials.values()}
    assert rates == {0.003, 0.01}
    assert result.combined is not None
    assert told["champion"]["trial"] == "ensemble"
    scored = {candidate["trial"] for candidate in told["candidates"]}
    assert scored == {"ensemble", "t0001", "t0002"}
    assert aliases("pair")["challenger"] == "2"


def said_by(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    return said.out + said.err


def test_a_decision_that_could_not_be_registered_comes_before_new_corrections(
    champion: Champion, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = champion("knn")
    correct(place)
    words = ("models:/knn@champion", "--margin", "5", "--json")

    def away(*_: object) -> None:
        raise NotReady("the bucket does not answer")

    with monkeypatch.context() as patched:
        patched.setattr("search.feedback.learning.registering.add_expected", away)
        assert place.improve(*words) == 4
    assert aliases("knn") == {"champion": "1"}
    image = turned(1)[0][200]
    place.met.correct(keep(place, image), "3", "api")
    assert place.improve(*words, "--since", "1h") == 0
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["version"] == "2"
    assert searched().ranking
    assert "--since has no effect, because this improvement started with no --since" in said.err


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (
            {},
            (
                "with 90 images received before, and its accuracy with that on 30 images of known "
                "class"
            ),
        ),
        (
            {"met": 0},
            "with the old validation images, because too few of the images received before",
        ),
        ({"labelled": 1}, "its accuracy with nothing, because only 1 image of known class"),
        (
            {"lost": "old"},
            "; old no longer exists: if it was an improvement, the images that it learned",
        ),
    ],
)
def test_what_later_images_are_held_to_is_told(facts: dict[str, Any], told: str) -> None:
    assert told in watched_text({"met": 90, "labelled": 30, "trained": 9, "lost": "", **facts})


def test_what_a_champion_was_improved_for_is_no_change_to_its_monitor(
    champion: Champion, capsys: pytest.CaptureFixture[str]
) -> None:
    place, (images, targets) = champion("knn"), turned()
    # In random order: digits of one writer lie side by side.
    rows = np.random.default_rng(0).permutation(len(images))

    def meet(version: str, pixels: Any, labels: Any, said: Any) -> None:
        names = [keep(place, image) for image in pixels]
        for name, label in zip(names, labels, strict=True):
            place.met.correct(name, CLASSES[label], "label")
        answers = [
            RecordedAnswer(
                f"{version}-{row}", int(version), name, version, tuple(said[row]), "usual"
            )
            for row, name in enumerate(names)
        ]
        place.met.write_answers(answers)

    first, then = rows[:300], rows[300:500]
    meet("1", images[first], targets[first], np.full((300, 10), 0.1))
    assert place.improve("models:/knn@champion", "--margin", "5") == 0
    assert aliases("knn")["champion"] == "2"
    known = {"tracking": "sqlite:///mlflow.db"}
    model = opened("models:/knn/2", **known)
    meet("2", images[then], targets[then], model.probabilities(images[then]))
    turned_again = np.ascontiguousarray(np.rot90(images[then], axes=(1, 2)))
    meet("3", turned_again, targets[then], model.probabilities(turned_again))
    words = ("models:/knn@champion", "--from", "met", "--tracking", known["tracking"], "--json")
    capsys.readouterr()
    assert monitor(words) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["held_to"].endswith("that were answered before it was improved and not trained on")
    assert [check["name"] for check in told["checks"]] == ["outputs", "class mix", "accuracy"]
    source = ModelSource(name="models:/knn/2", storage=Path("searches"), **known)
    held = reference.read(source.fetch(Path("classifier")))
    assert held is not None
    assert find_changes("knn", held, load_window(place.met, held, version="3")).changed


def test_a_challenger_is_there_as_onnx_if_the_champion_is(champion: Champion) -> None:
    champion("knn")
    database = "sqlite:///mlflow.db"

    def wanted(onnx: bool | None = None) -> bool:
        request = ImproveRequest(
            model="models:/knn/1", place=Path("met"), onnx=onnx, where=Where(tracking=database)
        )
        challenger = ChosenChallenger(
            champion_model=find_champion(request.champion_request()),
            home=home(Path("searches"), "knn"),
            result=SearchResult.read(Path("searches/knn")),
            facts={},
            place=request.place,
            onnx=request.onnx,
        )
        return challenger.is_wanted_as_onnx

    assert not wanted()
    MlflowClient(database).set_model_version_tag("knn", "1", ONNX, "true")
    assert wanted()
    assert not wanted(onnx=False)


@pytest.mark.slow
@pytest.mark.usefixtures("unregistered")
def test_searches_and_records_may_be_in_a_bucket(
    bucket: Bucket,
    empty_database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path)
    kept, met = f"{bucket}/searches", f"{bucket}/met"
    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    run(
        space=KNN,
        data="digits",
        executor="inline",
        name="knn",
        quiet=True,
        storage=kept,
        tracking=tracking,
    )
    records = Records.at(bucket / "met")
    records.begin(RecordsInfo("models:/knn", CLASSES))
    correct(Place(tmp_path, records))
    words = ["knn", "--storage", kept, "--from", met, "--tracking", tracking]
    assert main([*words, "--margin", "5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["outcome"] == "champion"
    assert sum(told["images"].values()) + len(told["left_out"]) == 150
    assert main([*words, "--margin", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == told


@pytest.mark.usefixtures("unregistered")
def test_a_second_round_learns_on_with_the_same_images_held_out(
    champion: Champion, capsys: pytest.CaptureFixture[str]
) -> None:
    place = champion("knn")
    correct(place, 120)
    place.improve("models:/knn@champion", "--margin", "5", "--json")
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    held = {image for image, use in place.met.set_aside_uses().items() if use == "held"}
    correct(place, 240)
    assert place.improve(first["search"], "--margin", "5", "--json") == 0
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert second["champion"]["search"] == first["search"]
    again = {image for image, use in place.met.set_aside_uses().items() if use == "held"}
    assert held < again
    assert second["images"]["held"] == len(again)
    known = [one for one in second["left_out"] if one["why"] == "is known already"]
    assert len(known) == first["images"]["trained"]
    # Beside the champion, which is the first round's, it is held against the first of all.
    assert first["first"] is None
    assert second["first"]["name"].endswith(" of knn")
    assert second["first"]["champion_accuracy"] == first["old"]["champion_accuracy"]
    noted = [
        {*images} for search, images in place.met.deciding_images().items() if search != EARLIER
    ]
    assert len(noted) == 2
    assert set().union(*noted) <= again
    rounds = rounds_of(info_of(home(Path("searches"), second["search"])), Path("searches"))
    assert [one.champion.search for one in rounds] == ["knn", first["search"]]
    trained = first["images"]["trained"] + second["images"]["trained"]
    assert len(trained_image_names(rounds)) == trained


def test_with_a_fifth_of_the_corrections_wrong_it_tells_and_refuses(
    champion: Champion, capsys: pytest.CaptureFixture[str]
) -> None:
    place = champion("network")
    correct(place, 300, wrong=0.25)
    assert place.improve("models:/network@champion") == 5
    said = capsys.readouterr().err
    assert "% of the 300 corrections are probably wrong, more than the allowed 10 %" in said
    assert "is probably labelled wrong" in said
    assert "--anyway" in said
    assert [path.name for path in Path("searches").iterdir()] == ["network"]
    assert place.met.set_aside_uses() == {}


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_where_none_can_become_champion_nothing_is_trained(
    champion: Champion, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    place = champion("network")
    correct(place, by="page")
    assert place.improve("models:/network@champion", *words) == (0 if words else 5)
    said = "".join(capsys.readouterr())
    assert "0 of the held-out images were chosen independently of the champion's answers" in said
    assert ("With --challenger, models are trained anyway" in said) is not bool(words)
    assert [path.name for path in Path("searches").iterdir()] == ["network"]
    assert place.met.set_aside_uses() == {}


def test_copies_of_test_images_are_refused_by_name(
    champion: Champion, capsys: pytest.CaptureFixture[str]
) -> None:
    place, digits = champion("knn"), load(DataConfig())
    assert digits.test is not None
    for image, target in zip(digits.test.images[:70], digits.test.targets[:70], strict=True):
        place.met.correct(keep(place, image), CLASSES[target], "page")
    assert place.improve("models:/knn@champion") == 2
    said = capsys.readouterr().err
    assert "70 refused: shows a test image" in said
    assert "shows a test image: test image 0 (" in said
    assert "there are too few corrected images: 0 for training (at least " in said


def test_a_dry_run_says_what_would_join_and_what_it_takes_to_tell(
    champion: Champion, capsys: pytest.CaptureFixture[str]
) -> None:
    place = champion("network")
    correct(place)
    assert place.improve("models:/network@champion", "--dry-run", "--budget", "1h") == 0
    said = capsys.readouterr()
    assert re.search(
        r"^reading the corrections and their images\n"
        r"looking for wrong labels among \d+ new images\n"
        r"new images: .* join the training set",
        said.err,
        re.MULTILINE,
    )
    assert "8 challengers of up to 1 epoch: the champion trained further (2)" in said.out
    assert "better by 5 points: 617 held-out images" in said.out
    assert "nothing was started" in said.out
    assert [path.name for path in Path("searches").iterdir()] == ["network"]
    assert place.met.set_aside_uses() == {}


@pytest.mark.usefixtures("unregistered")
def test_an_improvement_that_was_killed_goes_on(
    champion: Champion, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = champion("network")
    correct(place)
    words = ("network", "--name", "better", "--trials", "3", "--margin", "5", "--json")

    class Killed(BaseException):
        pass

    def end(*_: Any, **__: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("search.sessions.phases.evaluate_trials", end)
        with pytest.raises(Killed):
            place.improve(*words)
    assert len(SearchResult.read(Path("searches/better")).trials) == 3
    assert place.improve(*words) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    result = SearchResult.read(Path("searches/better"))
    assert told["outcome"] in ("champion", "challenger", "unchanged")
    assert Path("searches/better", DECISION).exists()
    starts = [trial.config.get("warm_start", "") for trial in result.trials.values()]
    assert [bool(start) for start in starts] == [True, True, False]
    assert len(result.sessions) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("models:/other@champion",), "unknown model 'other'. Known: knn"),
        (("nosuch",), "no search 'nosuch' in 'searches'"),
        (("knn", "--trials", "2"), "--trials must be >= 3 (got 2)"),
        (("knn", "--margin", "0"), "--margin must be > 0 and < 100 percentage points (got 0)"),
        (("knn", "--name", "a/b"), "--name must have 1 to 64 of the characters"),
        (("knn", "--name", "knn"), "the search 'knn' already exists, but was not started"),
        (
            ("knn",),
            "--from 'met' contains the records of 'models:/knn', whose classes differ from",
        ),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    champion: Champion, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    place = champion("knn")
    shutil.rmtree("met", ignore_errors=True)
    place.met.begin(RecordsInfo("models:/knn", ("a", "b")))
    capsys.readouterr()
    assert place.improve(*words) == 2
    assert told in capsys.readouterr().err
