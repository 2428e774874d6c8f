"""Workers on Ray: alone in their faults, and a line in bounded time where there is no Ray to work on."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import socket
import time

import pytest

from qkvlab.errors import BadInput
from qkvlab.training import cluster
from qkvlab.training.cluster import Cluster
from qkvlab.training.device import CPU, Devices
from qkvlab.training.faults import Lost
from qkvlab.training.place import find
from qkvlab.training.workers import Order

ORDER = Order("library", "same-word/fixed", "uniform", ((0, 0.003), (1, 1e30)), keep=(0,))


def test_a_ray_worker_that_dies_or_hangs_or_raises_is_alone_in_it(capfd):
    """One pool through all of it, and nothing of what Ray says on the terminal."""
    place = Cluster("local", CPU, 1)
    try:
        assert place.shapes() == [(1, 1)]
        pool = place.pool(1, 1)
        good = pool.train(ORDER, 120).result()
        assert good.diverged == [False, True] and list(good.weights) == [0]
        first = pool._workers[0].call(os.getpid, limit=60)
        with pytest.raises(BadInput, match="unknown design 'QQW'"):
            pool.train(Order("library", "same-word/fixed", "QQW", ((0, 0.003),)), 60).result()
        assert pool._workers[0].call(os.getpid, limit=60) == first

        future = pool.train(ORDER, 60)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(Lost, match=r"a Ray worker was lost \(ActorDiedError\)"):
            future.result()

        again = pool.train(ORDER, 120).result()
        second = pool._workers[0].call(os.getpid, limit=60)
        assert second != first and again.losses[0] == good.losses[0]
        os.kill(second, signal.SIGSTOP)
        with pytest.raises(Lost, match="did not answer within 1 seconds"):
            pool.train(ORDER, 1).result()
        pool.close()
    finally:
        place.close()
    assert not multiprocessing.active_children() and capfd.readouterr() == ("", "")


class Told:
    """A driver that only knows what its cluster has."""

    def __init__(self, **resources: float) -> None:
        self.resources = lambda: resources


@pytest.mark.parametrize(
    ("kind", "workers", "resources", "shapes"),
    [
        ("cpu", None, {"CPU": 6.0}, [(6, 1)]),
        ("cpu", 4, {"CPU": 6.0, "GPU": 1.0}, [(4, 1)]),
        ("cuda", None, {"CPU": 64.0, "GPU": 8.0}, [(8, 1)]),
        ("cpu", 7, {"CPU": 6.0}, "has 6 CPUs; 7 workers do not fit"),
        ("cuda", 9, {"GPU": 8.0}, "has 8 GPUs; 9 workers do not fit"),
        ("cuda", None, {"CPU": 64.0}, "has no GPU"),
    ],
)
def test_a_cluster_holds_as_many_workers_as_it_has_cores_or_cards(monkeypatch, kind, workers, resources, shapes):
    monkeypatch.setattr(Cluster, "_connected", lambda self: Told(**resources))
    place = Cluster("local", Devices(kind), workers)
    if isinstance(shapes, list):
        assert place.shapes() == shapes
        return
    with pytest.raises(BadInput, match=shapes):
        place.shapes()


@pytest.mark.parametrize(
    "address",
    ["", "here", "host", "host:", ":6379", "host:port", "ray://host:10001", "a b:1", "host:123456", "x" * 10**6],
)
def test_addresses_that_cannot_be_meant(address):
    with pytest.raises(BadInput, match="--ray must be host:port, auto or local"):
        find("cpu", None, address)


@pytest.mark.parametrize("device", ["mps", "cuda:0", "cuda:0,1"])
def test_devices_that_ray_does_not_hand_out(device):
    with pytest.raises(BadInput, match="Ray hands out the GPUs"):
        find(device, None, "local")


def test_without_ray_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install 'qkvlab\[ray\]'"):
        find("cpu", None, "local")


def test_where_nothing_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        begun = time.monotonic()
        with pytest.raises(
            BadInput, match=r"nothing answers at 127\.0\.0\.1:\d+ \(Connection refused\).*ray start --head"
        ):
            find("cpu", None, f"127.0.0.1:{taken.getsockname()[1]}")
    assert time.monotonic() - begun < cluster.REACH


def test_what_listens_and_is_not_ray(monkeypatch):
    """Ray's own attempt would go on for minutes and then end the process that asked."""
    monkeypatch.setattr(cluster, "CONNECT", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = find("cpu", None, f"127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(BadInput, match=r"cannot be used: it did not answer like Ray within 3 seconds"):
            place.shapes()
        assert time.monotonic() - begun < 20
    place.close()
    assert not multiprocessing.active_children()
