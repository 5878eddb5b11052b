"""Predictions on a folder: the form, what it starts, and the page of what came of it."""

import io
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from cluster.exit_codes import ExitCode
from search import predict
from search.views.csv_output import Rows
from search.web import predicted
from search.web.forms import launch, predicting
from search.web.forms.carried import CODE, LOG
from search.web.forms.launch import DESCRIPTION, PICTURES, RESULT, Launched, Launcher
from search.web.forms.predicting import Prediction, earlier
from search.web.pages import models
from search.web.predicted import Answers
from tests.support.asgi import Reply
from tests.support.site import Visitor

HOSTILE = '"><img src=x onerror=alert(1)>'
ID = "1700000000000-0123abcd"
TITLES = ("file", "class", "probability", "margin")


@pytest.fixture
def visitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Visitor:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "root" / "photos").mkdir(parents=True)
    return Visitor(tmp_path, tmp_path / "root")


@pytest.fixture
def photos(visitor: Visitor) -> Path:
    return visitor.folder / "root" / "photos"


def text(reply: Reply) -> str:
    return reply.content.decode()


def ended(
    visitor: Visitor,
    rows: list[tuple[object, ...]],
    *,
    titles: tuple[str, ...] = TITLES,
    name: str = "flowers",
    said: str = "",
    code: int = 0,
    number: str = ID,
) -> Launched:
    """Return predictions that are over, as if they had been started, with this table."""
    launcher, subject = Launcher(visitor.site.place), f"models:/{name}"
    words = (f"{subject}/3", "--", str(visitor.folder / "root" / "photos"))
    made = Launched(number, "predict", subject, words, 1_700_000_000_000, "/back")
    folder = launcher._place(subject) / number
    folder.mkdir(parents=True)
    told = {key: value for key, value in asdict(made).items() if key != "folder"}
    (folder / DESCRIPTION).write_text(json.dumps(told))
    (folder / LOG).write_text(said)
    (folder / CODE).write_text(str(code))
    table = io.StringIO()
    written = Rows(table, titles)
    for row in rows:
        written.write(dict(zip(titles, row, strict=True)))
    (folder / RESULT).write_text(table.getvalue(), newline="")
    found = launcher.find(number)
    assert found is not None
    return found


def order(page: str, *words: str) -> list[str]:
    """Return the words in the order in which they stand in a table."""
    body = page.partition("<tbody")[2]
    return sorted((word for word in words if word in body), key=body.index)


def test_a_form_becomes_the_words_of_a_command_line(
    visitor: Visitor, photos: Path, started: list[list[str]]
) -> None:
    reply = visitor.send("/models/my flowers/folder", {"version": "3", "folder": f" {photos} "})
    assert (reply.status, reply.headers["location"]) == (303, "/started/1")
    (verb, subject, *words) = started[0]
    assert (verb, subject) == ("predict", "models:/my flowers")
    assert words[:2] == ["models:/my flowers/3", str(photos)]
    args = predict.FACE.parser().parse_args(words)
    assert (args.name, args.paths) == ("models:/my flowers/3", [str(photos)])
    assert args.tracking == visitor.site.tracking


@pytest.mark.parametrize("folder", ["--json", "-", "--", "~nobody/x", "a\nb", HOSTILE, "\0", ""])
def test_no_folder_becomes_an_option(
    folder: str, visitor: Visitor, started: list[list[str]]
) -> None:
    reply = visitor.send("/models/flowers/folder", {"version": "3", "folder": folder})
    assert reply.status == 400
    assert text(reply).count('role="alert"') == 1
    assert HOSTILE not in text(reply)
    assert started == []


@pytest.mark.parametrize("folder", ["/etc", "{root}/../..", "{root}/photos/../../..", "{root}/out"])
def test_a_folder_elsewhere_is_refused_on_the_form(
    folder: str, visitor: Visitor, started: list[list[str]]
) -> None:
    root = visitor.folder / "root"
    (root / "out").symlink_to("/etc")
    given = folder.format(root=root)
    reply = visitor.send("/models/flowers/folder", {"version": "3", "folder": given})
    assert reply.status == 400
    assert "is not inside" in text(reply)
    assert f'value="{given}"' in text(reply)
    assert started == []


def test_a_link_in_the_folder_that_leads_out_is_refused(
    visitor: Visitor, photos: Path, started: list[list[str]]
) -> None:
    (photos / "a").mkdir()
    (photos / "a" / "link.png").symlink_to("/etc/passwd")
    reply = visitor.send("/models/flowers/folder", {"version": "3", "folder": str(photos)})
    assert reply.status == 400
    assert "is a link that leads out of" in text(reply)
    assert started == []


@pytest.mark.parametrize("version", ["", "1/../2", "champion", "-1", "1" * 20, "1 --json"])
def test_a_version_is_a_number(version: str, visitor: Visitor, started: list[list[str]]) -> None:
    given = {"version": version, "folder": str(visitor.folder / "root")}
    for reply in (
        visitor.send("/models/flowers/folder", given),
        visitor.see("/models/flowers/folder", **given),
    ):
        assert reply.status == 400
        assert "the version must be a whole number" in text(reply)
    assert started == []


def test_a_form_that_is_sent_twice_starts_once(
    visitor: Visitor, photos: Path, started: list[list[str]]
) -> None:
    form = {"version": "3", "folder": str(photos), "once": "0123456789abcdef"}
    assert [visitor.send("/models/flowers/folder", form).status for _ in range(2)] == [303, 303]
    assert len(started) == 1


def test_a_folder_is_looked_for_by_links(visitor: Visitor, photos: Path) -> None:
    page = text(visitor.see(f"/models/a {HOSTILE}/folder", version="3"))
    assert "photos" in page
    assert "Predict all its images" in page
    assert "version=3&amp;folder=" in page
    assert "<img src=x" not in page
    page = text(visitor.see("/models/flowers/folder", version="3", folder=str(photos)))
    assert f'value="{photos}"' in page
    reply = visitor.see("/models/flowers/folder", version="3", at="/etc")
    assert (reply.status, "is not inside" in text(reply)) == (400, True)


@pytest.mark.parametrize("name", ["played", "..", "../../x", "models:", "a" * 1000, HOSTILE])
def test_what_is_started_for_a_model_is_that_models_alone(name: str, visitor: Visitor) -> None:
    launched = ended(visitor, [], name=name)
    launcher = Launcher(visitor.site.place)
    assert launched.folder.parent.parent == launcher._folder
    assert [one.launched.id for one in earlier(launcher, name)] == [ID]
    assert launcher.of(name) == []
    assert earlier(launcher, f"{name}x") == []
    assert launched.name == name
    launcher.forget(name)  # a search of that name is deleted
    assert launcher.find(ID) is not None


def test_the_verb_writes_into_the_private_folder_of_its_start(
    visitor: Visitor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    class Process:
        def __init__(self, words: list[str], **options: object) -> None:
            commands.append(words)

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(launch.subprocess, "Popen", Process)
    monkeypatch.setattr(launch, "REFUSES_S", 0.0)
    visitor.send("/models/flowers/folder", {"version": "3", "folder": str(photos)})
    (one,) = earlier(Launcher(visitor.site.place), "flowers")
    args = predict.FACE.parser().parse_args(commands[0][5:])
    assert args.csv == one.launched.folder / RESULT
    assert one.launched.folder.stat().st_mode & 0o777 == 0o700
    assert (args.name, args.paths) == ("models:/flowers/3", [str(photos)])
    assert (one.version, one.folder) == ("3", str(photos))
    assert visitor.see(f"/started/{one.launched.id}").status == 200  # not over
    assert visitor.see(f"/predictions/{one.launched.id}").status == 404


def test_a_model_is_asked_of_one_folder_at_a_time_and_stopped(
    visitor: Visitor, photos: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    launched, stopped = ended(visitor, []), list[str]()
    (launched.folder / CODE).unlink()
    monkeypatch.setattr(Launched, "is_running", True)
    monkeypatch.setattr(Launched, "stop", lambda self: stopped.append(self.id))
    reply = visitor.send("/models/flowers/folder", {"version": "3", "folder": str(photos)})
    assert reply.status == 400
    assert f"the model is already predicting the images in &#39;{photos}&#39;" in text(reply)
    assert started == []
    assert f'action="/started/{ID}/stop"' in text(visitor.see(f"/started/{ID}"))
    reply = visitor.send(f"/started/{ID}/stop", {})
    assert (reply.status, reply.headers["location"]) == (303, f"/started/{ID}")
    assert stopped == [ID]
    assert visitor.send("/started/1-00000000/stop", {}).status == 404


def test_a_class_of_any_name_can_be_chosen(
    visitor: Visitor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicted, "MAX_ROWS", 3)
    long = "x" * 300
    rows = [(photos / f"{one}.png", name, 0.1, 0) for one, name in enumerate(["a\tb", long, "c"])]
    ended(visitor, [*rows, (photos / "sure.png", "sure", 0.9, 0.8)])
    page = text(visitor.see(f"/predictions/{ID}"))
    assert "state=sure" not in page, "none of it is listed"
    for one, name in enumerate(["a\\tb", "x" * 200, "c"]):
        assert f'<option value="{name}"' in page
        shown = text(visitor.see(f"/predictions/{ID}", state=name))
        assert order(shown, "0.png", "1.png", "2.png") == [f"{one}.png"]


def test_a_name_that_a_spreadsheet_would_run_is_shown_as_it_is(visitor: Visitor) -> None:
    ended(visitor, [("=1+2.png", "@rose", 0.9, 0.8)])
    page = text(visitor.see(f"/predictions/{ID}"))
    assert "=1+2.png" in page
    assert '<option value="@rose"' in page
    assert "&#39;=1" not in page


def test_an_end_leads_to_the_results(visitor: Visitor, photos: Path) -> None:
    ended(visitor, [(photos / "a.png", "rose", 0.9, 0.8)], said="1 image, 9 a second\n")
    assert visitor.see(f"/started/{ID}").headers["location"] == f"/predictions/{ID}"
    page = text(visitor.see(f"/predictions/{ID}"))
    assert "1 image of a folder" in page
    assert "90.0 %" in page
    assert "could not be read" not in page
    assert 'href="/models/flowers?version=3"' in page


def test_what_could_not_be_read_is_named(visitor: Visitor, photos: Path) -> None:
    said = (
        f"not read: {photos}/b{HOSTILE}.png: the file is empty\n"
        "note: skipped 2 files with an unsupported suffix (first: notes.txt)\n"
        "1 image, 9 a second; 1 not read\n"
    )
    row = (photos / "a.png", "rose", 0.9, 0.8)
    launched = ended(visitor, [row], said=said, code=ExitCode.SOME_FAILED)
    assert launched.state == "done; some files could not be read"
    assert visitor.see(f"/started/{ID}").status == 303
    page = text(visitor.see(f"/predictions/{ID}"))
    assert "Some files could not be read" in page
    assert ".png: the file is empty" in page
    assert "skipped 2 files with an unsupported suffix" in page
    assert "<img src=x" not in page


@pytest.mark.parametrize("code", [1, 2, 4, 130, 143])
def test_predictions_that_have_failed_say_why(code: int, visitor: Visitor) -> None:
    ended(visitor, [("a", "b", 1, 1)], said=f"error: no {HOSTILE}\n", code=code)
    reply = visitor.see(f"/started/{ID}")
    page = text(reply)
    assert (reply.status, "<p>no &#34;&gt;" in page) == (200, True)
    assert 'href="/back"' in page
    assert 'href="/models/flowers">The model' in page
    assert visitor.see(f"/predictions/{ID}").status == 404


def test_the_least_sure_come_first_and_the_table_is_sorted_and_filtered(
    visitor: Visitor, photos: Path
) -> None:
    rows = [
        (photos / "sure.png", "rose", 0.99, 0.9),
        (photos / "sub" / "far.png", "rose", 0.4, 0.05),
        (photos / "middle.png", "tulip", 0.7, 0.5),
    ]
    ended(visitor, rows)
    names = ("sure.png", "sub/far.png", "middle.png")
    page = text(visitor.see(f"/predictions/{ID}"))
    assert order(page, *names) == ["sub/far.png", "middle.png", "sure.png"]
    assert 'value="2"' in page  # two roses, as a bar
    assert "66.7 %" in page
    page = text(visitor.see(f"/predictions/{ID}", sort="probability", down="1"))
    assert order(page, *names) == ["sure.png", "middle.png", "sub/far.png"]
    page = text(visitor.see(f"/predictions/{ID}", state="tulip"))
    assert order(page, *names) == ["middle.png"]
    page = text(visitor.see(f"/predictions/{ID}", q="Rose FAR"))
    assert order(page, *names) == ["sub/far.png"]


def test_long_tables_come_in_pages_and_the_least_sure_are_kept(
    visitor: Visitor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicted, "MAX_ROWS", 60)
    rows = [(photos / f"{one:03}.png", "rose", one / 100, 0) for one in range(99, 0, -1)]
    ended(visitor, rows)
    page = text(visitor.see(f"/predictions/{ID}", page="2"))
    assert "99 images of a folder" in page
    assert "page 2 of 2" in page
    assert "Only the 60 least sure are listed here" in page
    assert order(page, "051.png", "060.png", "050.png", "061.png") == ["051.png", "060.png"]


def test_hostile_names_are_text(visitor: Visitor, photos: Path) -> None:
    names = [f"{HOSTILE}.png", "two\nlines.png", "carriage\rreturn.png", "a\x1b[31m,b.png"]
    rows = [(f"{photos}/{name}", f"<b>{HOSTILE}", 0.5, 0.1) for name in names]
    ended(visitor, rows, name=HOSTILE)
    page = text(visitor.see(f"/predictions/{ID}"))
    assert "4 images" in page
    assert "<img src=x" not in page
    assert "<b>" not in page
    assert "two\\nlines.png" in page
    assert "carriage\\rreturn.png" in page
    assert "a\\x1b[31m,b.png" in page


def test_answers_that_are_no_classes_are_shown_as_they_are(visitor: Visitor, photos: Path) -> None:
    titles = ("file", "covered", HOSTILE, "share")
    rows = [(photos / f"{one}.png", 10 - one, f"x{HOSTILE}", 0.5) for one in range(9)]
    ended(visitor, rows, titles=titles)
    page = text(visitor.see(f"/predictions/{ID}"))
    assert "Images in each class" not in page
    assert 'name="state"' not in page
    assert "least sure" not in page
    assert "<img src=x" not in page
    assert order(page, ">0.png<", ">8.png<") == [">0.png<", ">8.png<"]
    page = text(visitor.see(f"/predictions/{ID}", sort="column1"))
    assert order(page, ">0.png<", ">8.png<") == [">8.png<", ">0.png<"]


def test_a_table_that_is_none_is_told_in_a_line(visitor: Visitor) -> None:
    launched = ended(visitor, [("a", "b", 1, 1)])
    (launched.folder / RESULT).write_bytes(b"file,class\n\xff\xff,a\n")
    reply = visitor.see(f"/predictions/{ID}")
    assert (reply.status, "cannot be shown as a table" in text(reply)) == (400, True)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("my flowers", "my_flowers-3.csv"),
        ("..", "model-3.csv"),
        ('x"\r\nSet-Cookie: a=b', "x_Set-Cookie_a_b-3.csv"),
        ("R\u00f6se", "R_se-3.csv"),
    ],
)
def test_the_table_is_sent_as_it_was_written(name: str, file: str, visitor: Visitor) -> None:
    launched = ended(visitor, [("/a.png", "rose", 0.9, 0.8)], name=name)
    assert Prediction(launched).file_name == file
    reply = visitor.see(f"/predictions/{ID}/answers.csv")
    assert reply.content == (launched.folder / RESULT).read_bytes()
    assert reply.headers["content-disposition"] == f'attachment; filename="{file}"'
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_images_are_made_small_and_are_those_of_the_table_alone(
    visitor: Visitor, photos: Path
) -> None:
    Image.new("RGB", (900, 600), (200, 30, 40)).save(photos / "a.jpg")
    secret = visitor.folder / "secret.png"
    Image.new("RGB", (9, 9)).save(secret)
    (photos / "link.png").symlink_to(secret)
    (photos / "text.png").write_text("no image")
    names = ["a.jpg", "link.png", "gone.png", "text.png", "../../secret.png"]
    ended(visitor, [(f"{photos}/{name}", "rose", 0.9, 0.8) for name in names])
    reply = visitor.see(f"/predictions/{ID}/images/0")
    assert reply.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(reply.content)) as image:
        assert (image.format, image.size) == ("PNG", (128, 85))
    statuses = [visitor.see(f"/predictions/{ID}/images/{one}").status for one in range(1, 6)]
    assert statuses == [404, 404, 400, 404, 404]  # the last one is in no row
    for path in ("-1", "a.jpg", "0/../1", "%2e%2e%2fsecret.png"):
        assert visitor.see(f"/predictions/{ID}/images/{path}").status == 404


@pytest.mark.parametrize("name", ["1-00000000", "nosuch", "..", "*", "1-0000000*"])
def test_what_was_never_started_is_not_there(name: str, visitor: Visitor) -> None:
    for path in (name, f"{name}/answers.csv", f"{name}/images/0"):
        assert visitor.see(f"/predictions/{path}").status == 404


def test_what_was_started_on_a_search_is_no_prediction(visitor: Visitor) -> None:
    launched = ended(visitor, [("/a.png", "rose", 0.9, 0.8)])
    told = json.loads((launched.folder / DESCRIPTION).read_text())
    (launched.folder / DESCRIPTION).write_text(json.dumps({**told, "verb": "promote"}))
    assert visitor.see(f"/predictions/{ID}").status == 404


def test_a_models_page_names_earlier_predictions(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = models.Version("3", ("champion",), 1_700_000_000_000, "", "", "")
    found = [models.RegisteredModel("flowers", (version,))]
    monkeypatch.setattr(models, "models_in", lambda tracking, name="": found)
    assert "Earlier predictions" not in text(visitor.see("/models/flowers"))
    for one in range(7):
        ended(visitor, [], number=f"170000000000{one}-0123abcd", code=3 * (one == 6))
    page = text(visitor.see("/models/flowers"))
    assert 'action="/models/flowers/folder"' in page
    assert "/models/flowers/folder?version=3" in page
    assert page.count('href="/started/') == 7
    assert "done; some files could not be read" in page


def test_a_file_is_read_once_for_all_pages(
    visitor: Visitor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(visitor, [(photos / "a.png", "rose", 0.9, 0.8)])
    visitor.see(f"/predictions/{ID}")
    monkeypatch.delattr(Answers, "read")
    assert visitor.see(f"/predictions/{ID}", sort="file").status == 200


SHARES = ("file", "share of ground", "share of leaf")
SORTED = (("a", 0.25), ("b", 0.75))


def test_a_model_of_masks_writes_pictures_into_the_folder_of_its_prediction(
    visitor: Visitor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = tuple(
        models.Version(number, (), 0, "", "", "", task)
        for number, task in (("3", "segmentation"), ("2", "classification"))
    )
    found = [models.RegisteredModel("leaves", versions)]
    monkeypatch.setattr(predicting, "models_in", lambda tracking, name="": found)
    commands: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], **more: object) -> None:
            commands.append(command)

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(launch.subprocess, "Popen", Process)
    for number in ("3", "2"):
        started = predicting.started_by(
            "leaves", number, str(photos), visitor.site, Launcher(visitor.site.place)
        )
        (started.folder / CODE).write_text("0")
        option = f"--out={started.folder / PICTURES}"
        assert (option in commands[-1]) == (number == "3")


def test_shares_are_numbers_by_which_rows_are_sorted_beside_the_masks(
    visitor: Visitor, photos: Path
) -> None:
    rows = [(photos / "in" / f"{name}.jpg", 1 - share, share) for name, share in SORTED]
    launched = ended(visitor, rows, titles=SHARES, name="leaves")
    for name, _ in SORTED:
        target = launched.folder / PICTURES / "in" / f"{name}_overlay.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 200), (0, 0, 255)).save(target)
    page = text(visitor.see(f"/predictions/{ID}", sort="column2", down="1"))
    assert order(page, "in/a.jpg", "in/b.jpg") == ["in/b.jpg", "in/a.jpg"]
    assert "0.7500" in page
    assert f'src="/predictions/{ID}/overlays/1"' in page
    sizes = [
        Image.open(io.BytesIO(visitor.see(f"/predictions/{ID}/overlays/1", **more).content)).size
        for more in ({}, {"large": "1"})
    ]
    assert sizes == [(128, 85), (300, 200)]


def test_predictions_without_masks_have_no_pictures_of_them(visitor: Visitor, photos: Path) -> None:
    ended(visitor, [(photos / "a.png", "rose", 0.9, 0.8)])
    assert "/overlays/" not in text(visitor.see(f"/predictions/{ID}"))
    assert visitor.see(f"/predictions/{ID}/overlays/0").status == 404
