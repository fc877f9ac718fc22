"""The wheels of tunexfer and of its starter, installed away from the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
MAIN = "import sys; from tunexfer.cli.main import main; sys.argv[0] = 'tunexfer'; main()"
PIP = (sys.executable, "-m", "pip")
OPTIONS = ("--quiet", "--no-deps", "--no-build-isolation")


def run(*command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=300, check=False
    )


def wheel(project: Path, to: Path) -> Path:
    built = run(*PIP, "wheel", *OPTIONS, "--wheel-dir", str(to), str(project), cwd=to)
    assert built.returncode == 0, built.stderr
    return next(to.glob("*.whl"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that tunexfer's wheel is installed to."""
    folder = tmp_path_factory.mktemp("tunexfer")
    done = run(*PIP, "install", *OPTIONS, "--target", str(folder / "site"), str(wheel(REPOSITORY, folder)), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def plan(space: str, site: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """`tunexfer plan`, with this environment's libraries but neither its tunexfer nor its starter."""
    libraries = folder / "libraries"
    libraries.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("tunexfer", "_editable_impl_tunexfer")):
            (libraries / entry.name).symlink_to(entry)
    env = {"PYTHONPATH": f"{site}{os.pathsep}{libraries}", "TUNEXFER_CACHE": str(folder / "cache"), "COLUMNS": "160"}
    return run(sys.executable, "-S", "-c", MAIN, "plan", space, cwd=folder, **env)


@pytest.mark.slow
def test_an_installed_wheel_brings_the_shipped_spaces_and_suites(site: Path, tmp_path: Path) -> None:
    shown = plan("spaces/xtreme_stilts.yaml", site, tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert f"using the shipped space {site / 'tunexfer' / 'search_spaces'}" in shown.stderr
    assert "suite xtreme, encoder" in shown.stdout


@pytest.mark.slow
def test_without_the_starter_its_space_is_refused_with_what_to_install(site: Path, tmp_path: Path) -> None:
    shown = plan("multitask", site, tmp_path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "there is no suite 'starter'" in shown.stderr
    assert "tunexfer-starter" in shown.stderr


@pytest.mark.slow
def test_the_starters_wheel_has_its_suite_and_its_entry_points(tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel(REPOSITORY / "starter", tmp_path)) as built:
        names = built.namelist()
        entry_points = built.read("tunexfer_starter-0.1.0.dist-info/entry_points.txt").decode()
    assert {"tunexfer_starter/starter.yaml", "tunexfer_starter/fillers.yaml"} <= set(names)
    assert "starter = tunexfer_starter:SUITE" in entry_points
    assert "starter-e5-small-4l = tunexfer_starter:E5_SMALL_4L" in entry_points
