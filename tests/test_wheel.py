"""What `pip install` leaves, away from the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
MAIN = "import sys; from tunexfer.cli.main import main; sys.argv[0] = 'tunexfer'; main()"


def run(*command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_an_installed_wheel_brings_the_shipped_spaces_and_suites(tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip")
    options = ("--quiet", "--no-deps", "--no-build-isolation")
    built = run(*pip, "wheel", *options, "--wheel-dir", str(tmp_path), str(REPOSITORY), cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    wheel = next(tmp_path.glob("*.whl"))
    run(*pip, "install", *options, "--target", str(tmp_path / "site"), str(wheel), cwd=tmp_path)
    env = {"PYTHONPATH": str(tmp_path / "site"), "TUNEXFER_CACHE": str(tmp_path / "cache")}
    shown = run(sys.executable, "-c", MAIN, "plan", "spaces/multitask.yaml", cwd=tmp_path, **env)
    assert shown.returncode == 0, shown.stderr
    assert f"using the shipped space {tmp_path / 'site' / 'tunexfer' / 'search_spaces'}" in shown.stderr
    assert "multitask: suite starter" in shown.stdout
