"""An existing Ray cluster and a tracking server of one's own: where they are, and where they aren't."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from command import Home, runs, statuses
from servers import free_port, mlflow_server

from tunexfer.errors import StudyError
from tunexfer.search import cluster


@pytest.mark.slow
def test_a_search_runs_on_an_existing_cluster_and_a_dead_tracking_server_gets_everything_later(
    home: Home, head: str
) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    space, options = home.space("elsewhere"), ("--tracking-uri", uri, "--concurrent", "1", "--json")
    found = home.search(space, "--trials", "2", "--address", head, *options)
    assert found.summary["trials"]["complete"] == 2
    assert found.said.count("can't be used") == 1
    assert f"MLflow at {uri} can't be used" in found.said
    assert [path for path in home.path.rglob(".tunexfer-*")] == []  # what probes the nodes is removed
    before = statuses(home.study("elsewhere"))
    with mlflow_server(port, home.path):
        again = home.search(space, "--trials", "2", *options)
        assert again.summary["trials"]["complete"] == 2
        assert "can't be used" not in again.said
        assert runs(uri, "elsewhere").keys() == {"parent", "0", "1"}
        extended = home.search(space, "--trials", "3", "--address", head, *options)
        assert extended.summary["trials"]["complete"] == 3
        sent = runs(uri, "elsewhere")
    assert sent.keys() == {"parent", "0", "1", "2"}
    assert {run.info.status for run in sent.values()} == {"FINISHED"}
    assert statuses(home.study("elsewhere")).items() >= before.items()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:{port}", "nothing answers at 127.0.0.1"),
        ("127.0.0.1", "give the head node's host and port"),
        ("ray://127.0.0.1:10001", "Ray's client can't drive a search"),
    ],
)
def test_an_address_without_a_cluster_is_an_error_within_seconds(home: Home, address: str, said: str) -> None:
    started = time.monotonic()
    done = home.search(home.space("nowhere"), "--address", address.format(port=free_port()))
    assert (done.code, done.out) == (2, "")
    assert said in done.said
    assert "Traceback" not in done.said
    assert time.monotonic() - started < 30


def test_a_ray_that_does_not_start_is_an_error_of_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*_: Any, **__: Any) -> None:
        raise Exception("The current node timed out during startup")  # as Ray raises it

    monkeypatch.setattr(cluster.ray, "init", init)
    opened = cluster.cluster(None, cpus_per_job=1, name="toy")
    with pytest.raises(StudyError, match=r"a local Ray cluster can't be used: The current node timed out"), opened:
        pass


def test_a_folder_that_a_node_does_not_see_is_an_error_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(probes: list[Any], timeout: float) -> list[tuple[str, list[str]]]:
        return [("here", []), ("there", ["stage store"])]

    monkeypatch.setattr(cluster, "_nodes", list)
    monkeypatch.setattr(cluster.ray, "get", answers)
    store = tmp_path / "store"
    message = rf"node there of the cluster doesn't see the stage store {store}\. Put it on a file system"
    with pytest.raises(StudyError, match=message):
        cluster.check_shared({"runs folder": tmp_path / "runs", "stage store": store})
    assert list(store.iterdir()) == []
