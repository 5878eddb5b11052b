"""The open files of a process, and the connections that they allow."""

import resource

import pytest

from search.serving.limits import OTHER_FILES, Limits, fit_to_open_files

ENDLESS = resource.RLIM_INFINITY
NEEDED = 4096 + OTHER_FILES


@pytest.mark.parametrize(
    ("soft", "hard", "raised_to", "connections"),
    [
        (1024, 1024, 1024, 1024 - OTHER_FILES),
        (1024, 2048, 2048, 2048 - OTHER_FILES),
        (1024, 2**20, NEEDED, 4096),
        (1024, ENDLESS, NEEDED, 4096),
        (2**20, 2**20, 2**20, 4096),
        (ENDLESS, ENDLESS, ENDLESS, 4096),
        (64, 64, 64, 32),
    ],
)
def test_there_are_no_more_connections_than_files_that_may_be_open(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised_to: int, connections: int
) -> None:
    now = [soft, hard]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(now))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: now.__setitem__(slice(2), limits))
    assert fit_to_open_files(Limits()).connections == connections
    assert now == [raised_to, hard]
