"""What promoted models say of images, each in a process of its own."""

import asyncio
import io
import json
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from cluster.errors import NotReady
from search.serving import versions
from search.web.forms import answering, answers
from search.web.forms.answers import Models
from tests.support.promoted import linear
from trainables.errors import ConfigError


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MODULE", "tests.support.answering")


def png(side: int = 8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((side, side), 200, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_a_model_is_loaded_once_and_answers_in_order() -> None:
    async def asked() -> None:
        models = Models("sqlite:///x")
        told = await asyncio.gather(*(models.ask("models:/a/1", b"x" * n) for n in (1, 70_000, 3)))
        assert [one["bytes"] for one in told] == [1, 70_000, 3]
        assert len({one["process"] for one in told}) == 1
        await models.end()

    asyncio.run(asked())


def test_a_model_that_cannot_be_loaded_says_why() -> None:
    with pytest.raises(ConfigError, match="it cannot be loaded"):
        asyncio.run(Models("sqlite:///x").ask("models:/broken/1", b"x"))


def test_a_process_that_dies_is_told_of_and_started_anew() -> None:
    async def asked() -> None:
        models = Models("sqlite:///x")
        with pytest.raises(NotReady, match="ended before it answered"):
            await models.ask("models:/a/1", b"die")
        assert (await models.ask("models:/a/1", b"xy"))["bytes"] == 2
        await models.end()

    asyncio.run(asked())


def test_few_models_are_loaded_and_an_idle_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MAX_MODELS", 1)

    async def asked() -> None:
        models = Models("sqlite:///x")
        first = (await models.ask("models:/a/1", b"x"))["process"]
        await models.ask("models:/b/1", b"x")
        assert (await models.ask("models:/a/1", b"x"))["process"] != first
        monkeypatch.setattr(answers, "IDLE_S", 0.0)
        second = (await models.ask("models:/a/1", b"x"))["process"]
        while models.loaded:
            await asyncio.sleep(0.01)
        assert (await models.ask("models:/a/1", b"x"))["process"] != second
        await models.end()

    asyncio.run(asked())


def test_models_that_are_asked_together_are_not_loaded_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "POLL_S", 0.005)
    most = 0

    async def asked() -> None:
        nonlocal most
        models, before = Models("sqlite:///x"), set(psutil.Process().children())
        asking = asyncio.gather(*(models.ask(f"models:/{one}/1", b"xy") for one in "abcdef"))
        while not asking.done():
            most = max(most, len(set(psutil.Process().children()) - before))
            await asyncio.sleep(0.002)
        assert [one["bytes"] for one in await asking] == [2] * 6
        await models.end()
        assert set(psutil.Process().children()) == before

    asyncio.run(asked())
    assert 0 < most <= answers.MAX_MODELS


def test_models_that_are_not_loaded_are_forgotten() -> None:
    async def asked() -> None:
        models = Models("sqlite:///x")
        for number in range(5):
            with pytest.raises(NotReady):
                await models.ask(f"models:/a/{number}", b"die")
        await models.ask("models:/b/1", b"x")
        assert list(models._models) == ["models:/b/1"]
        await models.end()

    asyncio.run(asked())


def test_models_that_have_ended_load_no_more() -> None:
    async def asked() -> None:
        models = Models("sqlite:///x")
        await models.end()
        with pytest.raises(NotReady, match="the server is shutting down"):
            await models.ask("models:/a/1", b"x")

    asyncio.run(asked())


def test_an_answer_has_the_most_probable_classes_and_the_time(tmp_path: Path) -> None:
    served = versions.load_version(
        linear(tmp_path / "model", always=3), "m", "1", threads=1, delay_s=0.05
    )
    told = answering.answer_image(served, png())
    assert told["class"] == "3"
    assert len(told["probabilities"]) == answering.TOP
    assert told["took_ms"] > 0
    assert json.dumps(told)


@pytest.mark.parametrize("content", [b"", b"no image", png()[:-30]])
def test_what_is_no_image_is_answered_with_a_line(content: bytes, tmp_path: Path) -> None:
    served = versions.load_version(linear(tmp_path / "model"), "m", "1", threads=1, delay_s=0.05)
    assert "\n" not in answering.answer_image(served, content)["error"]


def test_images_come_behind_their_length() -> None:
    stream = io.BytesIO(b"3\na\nb2\ncd")
    assert list(answering.images(stream)) == [b"a\nb", b"cd"]
