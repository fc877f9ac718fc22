"""The Ray cluster a study runs on: a local one of its own, or one that is already there."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import socket
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray.job_config import JobConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tunexfer.errors import StudyError

PROBE_S = 120
CONNECT_S = 5
MANY_NODES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for clusters of several machines; without it a node's address is loopback, the default off Linux."""


@contextmanager
def cluster(address: str | None, *, cpus_per_job: int, name: str) -> Iterator[str]:
    """Be connected to Ray for a while.

    address: of an existing cluster; None starts one on this machine, for this study alone
    name:    the study's, by which the dashboard names the job
    yields: the dashboard's URL, empty where there is none
    raises: StudyError, if there is no cluster at that address, or none can be started
    """
    environment = {name: str(cpus_per_job) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
    with contextlib.nullcontext() if address else _local(environment):
        yield from _connected(address, environment, name)


def _connected(address: str | None, environment: Mapping[str, str], name: str) -> Iterator[str]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    job = JobConfig(metadata={"job_name": name})
    namespace = f"tunexfer-{name}-{uuid.uuid4().hex[:8]}"  # of this search alone: names of devices are unique in it
    settings: dict[str, Any] = {**quiet, "namespace": namespace, "job_config": job}
    if address is None:
        settings |= {"include_dashboard": True, "dashboard_host": "127.0.0.1"}
    else:
        _check_address(address)
        settings["runtime_env"] = {"env_vars": environment}
    with redirect_stdout(sys.stderr):  # Ray tells of dead workers on standard output, where the summary goes
        try:
            context = ray.init(address or "local", **settings)
        except Exception as error:  # Ray raises whatever it meets, a full disk or a long path, or a bare Exception
            ray.shutdown()
            where = f"the Ray cluster at {address}" if address else "a local Ray cluster"
            hint = ""
            if address and "RAY_AUTH_MODE" not in os.environ:
                hint = ". If it asks for a token (`ray get-auth-token` on its head shows one), set RAY_AUTH_MODE=token"
            raise StudyError(f"{where} can't be used: {str(error) or type(error).__name__}{hint}") from error
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        try:
            yield f"http://{context.dashboard_url}" if context.dashboard_url else ""
        finally:
            ray.shutdown()


@contextmanager
def _local(environment: Mapping[str, str]) -> Iterator[None]:
    """Give variables to all processes of a Ray that is started meanwhile, and have it listen on loopback alone.

    Ray's own way, a runtime environment, takes a process more, and those that Ray has started beforehand go unused.
    """
    before, ours = os.environ.copy(), ray_constants.ENABLE_RAY_CLUSTER
    os.environ |= {**environment, MANY_NODES: "0"}
    ray_constants.ENABLE_RAY_CLUSTER = False  # this process has read the variable
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = ours
        for name in (*environment, MANY_NODES):
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


def capacity(device: Mapping[str, float]) -> int:
    """Count the devices that fit on the cluster.

    device: Ray's names of resources -> what a device takes
    raises: StudyError, if not even one fits
    """
    there: dict[str, float] = ray.cluster_resources()
    fits = min(int(there.get(name, 0) // amount) for name, amount in device.items() if amount and name != "GPU")
    if share := device.get("GPU"):
        counts = [node["Resources"].get("GPU", 0) for node in _nodes()]
        fits = min(fits, sum(int(count) * int(1 / share) for count in counts))
    if fits < 1:
        wanted, found = (
            " and ".join(f"{resources.get(name, 0):g} {name}" for name, amount in device.items() if amount)
            for resources in (device, there)
        )
        raise StudyError(f"a job needs {wanted}, but the cluster has {found}. Lower resources.cpus or resources.gpus.")
    return fits


def check_shared(folders: Mapping[str, Path]) -> None:
    """Make sure that every node sees the same folders.

    folders: what each is, in words -> the folder
    raises: StudyError naming the node and the folder
    """
    tokens = {}
    for what, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        tokens[what] = folder.resolve() / f".tunexfer-{uuid.uuid4().hex[:12]}"
        tokens[what].write_text(platform.node())
    try:
        paths = {what: str(token) for what, token in tokens.items()}
        places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in _nodes()]
        probes = [_missing.options(scheduling_strategy=place).remote(paths) for place in places]
        for host, missing in ray.get(probes, timeout=PROBE_S):
            for what in missing:
                raise StudyError(
                    f"node {host} of the cluster doesn't see the {what} {folders[what]}. Put it on a file system that "
                    f"all nodes share, under the same path, or run without --address."
                )
    except ray.exceptions.GetTimeoutError:
        raise StudyError(f"a node of the cluster didn't answer within {PROBE_S} s; is it busy or gone?") from None
    finally:
        for token in tokens.values():
            token.unlink(missing_ok=True)


def _check_address(address: str) -> None:
    """Make sure that something listens at an address; Ray itself would try for many minutes."""
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise StudyError(f"{address}: Ray's client can't drive a search; give the head node's own address, host:6379")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise StudyError(f"--address {address}: give the head node's host and port, host:6379, or `auto`")
    hosts = [host.strip("[]")]
    if hosts[0] in ("localhost", "127.0.0.1", "::1"):
        hosts.append(ray.util.get_node_ip_address())  # which is where Ray looks then
    for one in hosts:
        try:
            socket.create_connection((one, int(port)), timeout=CONNECT_S).close()
        except (OSError, OverflowError) as error:
            said = error
        else:
            return
    raise StudyError(
        f"nothing answers at {address} ({said}). Is the cluster up? `ray start --head` prints its address; without "
        "--address a local one is started."
    )


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


@ray.remote(num_cpus=0)
def _missing(tokens: Mapping[str, str]) -> tuple[str, list[str]]:
    """On a node: its name, and which tokens it can't see."""
    return socket.gethostname(), [what for what, path in tokens.items() if not Path(path).exists()]
