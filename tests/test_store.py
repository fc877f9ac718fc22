import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tunexfer.store as module
from tunexfer.errors import StudyError
from tunexfer.store import MARK, Busy, StageStore

FILES = {"model.safetensors": b"weights" * 100, "rows.parquet": b"rows"}
A, B, C = "aa" + "0" * 30, "bb" + "0" * 30, "cc" + "0" * 30


@pytest.fixture
def store(tmp_path: Path) -> StageStore:
    return StageStore(tmp_path / "store")


def folder(store: StageStore, name: str) -> Path:
    return store.root / "entries" / name[:2] / name


def holder(store: StageStore, code: str) -> subprocess.Popen[str]:
    """Another process that runs `code` with the store, says so, and then does nothing."""
    script = (
        "import sys, time; from tunexfer.store import StageStore; store = StageStore(sys.argv[1])\n"
        f"with {code}:\n    print('in', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(store.root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    return process


def test_an_entry_is_found_with_its_files_and_metadata(store: StageStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    store.put(A, FILES | {"copied": tmp_path / "file"}, {"steps": 60})
    entry = store.get(A)
    assert entry is not None
    assert {name: path.read_bytes() for name, path in entry.files.items()} == FILES | {"copied": b"from a file"}
    assert entry.metadata == store.metadata(A) == {"steps": 60}
    assert store.has(A)


def test_what_was_never_put_is_not_there(store: StageStore) -> None:
    assert store.get(A) is None
    assert store.metadata(A) is None
    assert not store.has(A)


@pytest.mark.parametrize("file", [*FILES, MARK])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_damaged_entry_is_as_good_as_absent(store: StageStore, file: str, damage: str) -> None:
    store.put(A, FILES, {"steps": 60})
    path = folder(store, A) / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(bytes(content) if damage == "flipped" else path.read_bytes()[:-3])
    assert store.get(A) is None
    store.put(A, FILES, {"steps": 60})
    assert store.get(A) is not None


def test_a_full_disk_is_a_clear_error_and_leaves_no_mark(store: StageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = module.write_whole

    def full(path: Path, content: bytes) -> None:
        if path.name == "rows.parquet":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(path, content)

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(StudyError, match=r"can't be written: No space left on device. Make room"):
        store.put(A, FILES, {})
    assert not store.has(A)
    assert store.bytes() == 0


def test_a_store_where_nothing_may_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"can't be written: Not a directory"), StageStore(tmp_path / "file").claim(A):
        pass


def used(store: StageStore, *names: str) -> None:
    """Entries of 1,000 bytes and a mark, used in this order."""
    for age, name in enumerate(names):
        store.put(name, {"file": bytes(1000)}, {})
        os.utime(folder(store, name) / MARK, (1_000_000 + age,) * 2)


def test_over_the_limit_the_entry_used_longest_ago_goes_first(store: StageStore) -> None:
    used(store, A, B, C)
    assert store.get(A) is not None  # now B is the oldest
    store.limit_bytes = store.bytes() - 1
    store.trim()
    assert [name for name in (A, B, C) if store.has(name)] == [A, C]
    assert store.bytes() <= store.limit_bytes


def test_nothing_goes_while_the_limit_holds_or_where_there_is_none(store: StageStore) -> None:
    used(store, A, B)
    store.trim()
    store.limit_bytes = store.bytes()
    store.trim()
    assert store.has(A)
    assert store.has(B)


def test_an_entry_in_use_stays_however_old_and_however_full(store: StageStore) -> None:
    used(store, A, B, C)
    store.limit_bytes = 0
    with store.lease([A, "not there yet"]):
        store.trim()
        assert [name for name in (A, B, C) if store.has(name)] == [A]
    store.trim()
    assert not store.has(A)
    assert list((store.root / "leases").iterdir()) == []


def test_a_process_protects_what_it_uses_until_it_is_killed(store: StageStore) -> None:
    used(store, A)
    store.limit_bytes = 0
    other = holder(store, f"store.lease(['{A}'])")
    store.trim()
    assert store.has(A)
    other.send_signal(signal.SIGKILL)
    other.wait()
    store.trim()
    assert not store.has(A)
    assert list((store.root / "leases").glob("*.json")) == []


def test_a_job_is_claimed_by_one_process_and_free_after_its_death(store: StageStore) -> None:
    other = holder(store, f"store.claim('{A}')")
    with store.claim(B):  # another job is free
        pass
    started = time.perf_counter()
    with pytest.raises(Busy), store.claim(A):
        pass
    assert time.perf_counter() - started < 1  # nobody waits
    other.kill()
    other.wait()
    with store.claim(A):
        pass


def test_entries_that_other_processes_put_count_towards_the_limit(store: StageStore) -> None:
    """Each process reads on in the index of sizes, and nobody scans the store before it is full."""
    used(store, A)
    other = StageStore(store.root, limit_bytes=store.bytes() + 1)
    other.trim()
    store.put(B, {"file": bytes(1000)}, {})
    other.trim()
    assert [key for key in (A, B) if store.has(key)] == [B]


def test_a_store_without_an_index_of_sizes_is_scanned(store: StageStore) -> None:
    used(store, A, B)
    (store.root / "sizes.txt").unlink()
    store.limit_bytes = 1
    store.trim()
    assert store.bytes() == 0


def test_an_entry_that_was_never_finished_goes_first(store: StageStore) -> None:
    used(store, A, B)
    (folder(store, B) / MARK).unlink()
    store.limit_bytes = store.bytes() - 1
    store.trim()
    assert store.has(A)
    assert not folder(store, B).exists()


def test_a_store_behind_a_url_gives_other_machines_what_one_put(tmp_path: Path) -> None:
    here, there = (StageStore("memory://stages", copies=tmp_path / machine) for machine in ("here", "there"))
    here.put(A, FILES, {"steps": 60})
    assert there.has(A)
    entry = there.get(A)
    assert entry is not None
    assert {name: path.read_bytes() for name, path in entry.files.items()} == FILES
    assert there.get(B) is None
    assert not there.has(B)


def test_a_damaged_copy_of_a_remote_entry_is_fetched_again(tmp_path: Path) -> None:
    store = StageStore("memory://again", copies=tmp_path)
    store.put(A, FILES, {})
    (folder(store, A) / "rows.parquet").write_bytes(b"ro")
    entry = store.get(A)
    assert entry is not None
    assert entry.files["rows.parquet"].read_bytes() == b"rows"
