"""The workers of a team find each other."""

import os

import pytest
import ray

from trainables.trainer import choose_interface, interface_of


def test_the_interface_is_that_of_the_address() -> None:
    name = interface_of("127.0.0.1")
    assert name.startswith("lo")
    assert interface_of("192.0.2.1") == "", "an address for documentation, which no machine has"


def test_an_interface_that_the_user_chose_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    choose_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "mine"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    choose_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == interface_of("127.0.0.1")
