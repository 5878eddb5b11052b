"""Patches that do not fit: some are skipped, and without others nothing starts."""

import logging
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from cluster.errors import NotReady
from cluster.runtime.patches import Patch, _log_skipped, apply_patches, check_patches
from cluster.versions import TRIED_VERSIONS


class Engine:
    def start(self, speed: int) -> str:
        return f"at {speed}"

    def stop(self) -> str:
        return "stopped"


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library `engine`; no patch to it has been skipped."""
    module: Any = ModuleType("engine")
    module.Engine, module.VERSION = Engine, "1"
    monkeypatch.setitem(sys.modules, "engine", module)
    _log_skipped.cache_clear()


def patch_of(target: str, *parameters: str, is_needed: bool = False) -> Patch:
    def wrap(original: Callable[..., str], *arguments: str) -> Callable[..., str]:
        return lambda *passed: " ".join([original(*passed), "patched", *arguments])

    return Patch(target, parameters, wrap, "a second", is_needed)


START = patch_of("engine:Engine.start", "self", "speed")
MISFITS = {
    "engine:Engine.start": "Ray's engine:Engine.start has unexpected parameters (self, speed)",
    "engine:Engine.halt": "Ray has no engine:Engine.halt",
    "engine:Motor.start": "Ray has no engine:Motor.start",
    "engine:VERSION": "Ray's engine:VERSION has no signature",
    "no_engine:Engine.start": "Ray has no no_engine:Engine.start",
}


def test_a_patch_that_fits_is_applied_and_taken_off() -> None:
    with apply_patches([START], "again"):
        assert Engine().start(3) == "at 3 patched again"
    assert Engine().start(3) == "at 3"


@pytest.mark.parametrize(("target", "reason"), MISFITS.items())
def test_a_patch_that_does_not_fit_is_skipped_with_one_line(
    target: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    stop = patch_of("engine:Engine.stop", "self")
    for _ in range(2):
        with apply_patches([patch_of(target, "self"), stop]):
            assert (Engine().start(3), Engine().stop()) == ("at 3", "stopped patched")
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "cluster.runtime.patches")
    assert record.getMessage() == (
        f"{reason}, so it is not patched. The purpose of the patch: a second"
    )


@pytest.mark.parametrize(("target", "reason"), MISFITS.items())
def test_without_a_needed_patch_nothing_starts(target: str, reason: str) -> None:
    needed = patch_of(target, "self", is_needed=True)
    message = (
        f"{reason}, so a patch that every search needs cannot be applied. Install a tested version "
        f"of Ray ({TRIED_VERSIONS['ray']}): pip install 'ray{TRIED_VERSIONS['ray'].bounds}'."
    )
    with pytest.raises(NotReady) as refusal:
        check_patches([START, needed])
    assert str(refusal.value) == message
    with pytest.raises(NotReady), apply_patches([START, needed]):
        pytest.fail("it ran without a needed patch")
    assert Engine().start(3) == "at 3"


def test_patches_that_fit_are_ready() -> None:
    check_patches([patch_of("engine:Engine.start", "self", "speed", is_needed=True)])
