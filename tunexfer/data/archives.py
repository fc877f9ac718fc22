"""Archives as folders: a ZIP or tar file in a path is unpacked into the cache, once."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

from tunexfer.core.files import whole_folder
from tunexfer.data.checkpoint import file_hash
from tunexfer.errors import DataError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def is_archive(name: str) -> bool:
    return name.endswith(SUFFIXES)


def unpacked(archive: Path, cache: Path) -> Path:
    """Return a folder with an archive's members; it is made anew when the archive's bytes change.

    raises: DataError, if the archive is damaged or a member would leave the folder
    """
    folder = cache / "unpacked" / file_hash(archive, cache)
    if folder.is_dir():
        return folder
    try:
        with whole_folder(folder) as draft:
            if archive.name.endswith(".zip"):
                with zipfile.ZipFile(archive) as members:
                    members.extractall(draft)
            else:
                with tarfile.open(archive) as members:
                    members.extractall(draft, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError) as error:
        raise DataError(f"{archive} can't be unpacked: {error}") from error
    return folder
