"""Spoken commands: templates of the package home-assistant-intents, filled with our words (`fillers.yaml`)."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import cycle
from typing import Any

import yaml

from tunexfer_starter.packages import chance, installed
from tunexfer_starter.rows import Split
from tunexfer_starter.templates import Missing, Piece, Span, assemble, draw, parse

SPLIT_CYCLES: dict[bool, tuple[Split, ...]] = {
    True: ("train", "test", "train", "validation", "train", "test"),
    False: ("test", "validation", "test"),
}
"""Order in which the templates of a label are dealt to splits, in languages with and without train rows."""
WORDINGS: dict[Split, int] = {"train": 6000, "validation": 1200, "test": 2400}
"""Approximate number of wordings drawn in a language, equally many per template; duplicates are dropped."""
FILES = {"zh": "zh-CN"}

LABELS = {
    "TurnOn": "turn_on",
    "TurnOff": "turn_off",
    "TurnOn cover": "open",
    "TurnOn valve": "open",
    "TurnOff cover": "close",
    "TurnOff valve": "close",
    "TurnOn scene": "scene",
    "TurnOn script": "scene",
    "GetState any": "ask_any",
    "GetState all": "ask_all",
    "GetState which": "ask_which",
    "GetState how_many": "ask_how_many",
    "LightSet brightness": "brightness",
    "LightSet color": "color",
    "LightSet temperature": "color",
    "ClimateGetTemperature": "temperature_get",
    "ClimateSetTemperature": "temperature_set",
    "StartTimer": "timer_start",
    "CancelTimer": "timer_cancel",
    "CancelAllTimers": "timer_cancel",
    "IncreaseTimer": "timer_longer",
    "DecreaseTimer": "timer_shorter",
    "PauseTimer": "timer_pause",
    "UnpauseTimer": "timer_resume",
    "TimerStatus": "timer_status",
    "MediaPause": "media_pause",
    "MediaUnpause": "media_resume",
    "MediaNext": "media_next",
    "MediaPrevious": "media_previous",
    "SetVolume": "volume",
    "SetVolumeRelative": "volume",
    "ListAddItem": "list_add",
    "ShoppingListAddItem": "list_add",
    "ListCompleteItem": "list_done",
    "ShoppingListCompleteItem": "list_done",
    "SetPosition": "position",
}
"""Upstream's intent, with the response that tells its catch-all ones apart -> our label. Others are dropped."""
OTHER_RESPONSES = {"TurnOn": {"lock", "unlock", "button"}, "TurnOff": {"lock", "unlock"}}

TAGS = {
    "area": "area",
    "device_class": "device",
    "state": "state",
    "color": "color",
    "brightness": "level",
    "position": "level",
    "percentage": "level",
    "volume_level": "level",
    "volume_step": "level",
    "temperature": "temperature",
    "hours": "hours",
    "start_hours": "hours",
    "minutes": "minutes",
    "start_minutes": "minutes",
    "seconds": "seconds",
    "start_seconds": "seconds",
    "item": "item",
}
"""Upstream's slot -> our tag; names are `device`s or, of timers, lists and scenes, `name`s. Other slots have no tag."""
DEVICES = {"light": ["light"], "media_player": ["media"], "climate": ["climate"]}
"""Domain -> our groups of words for its devices. Templates of other domains take words of every group."""


@dataclass(frozen=True, slots=True)
class Command:
    template: str
    """Language, upstream's intent and slot combination, and the position there."""
    number: int
    """Number of the draw: commands of the same number, split and language have the same words in the same slot."""
    label: str
    meaning: str
    """The request apart from the words in its slots, finer than the label: two of one meaning are paraphrases."""
    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class _Template:
    key: str
    label: str
    meaning: str
    text: str
    domains: frozenset[str]


class _Language:
    """A language file of the package, and the words for its slots."""

    def __init__(self, code: str) -> None:
        folder = installed("home-assistant-intents", "home_assistant_intents/data")
        self.code = code
        self.file: dict[str, Any] = json.loads((folder / f"{FILES.get(code, code)}.json").read_text(encoding="utf-8"))
        self.words: dict[str, list[str]] = _fillers()[code]

    def templates(self) -> Iterator[_Template]:
        """Yield every template with a label of ours; of two with the same text, the first."""
        seen: set[str] = set()
        for intent, content in sorted(self.file["intents"].items()):
            positions: dict[str, int] = defaultdict(int)
            for block in content["data"]:
                combination = block.get("metadata", {}).get("slot_combination", "other")
                label, domains = _label(intent, block.get("response", "default")), _domains(block)
                for text in block["sentences"]:
                    key = f"{self.code}/{intent}/{combination}/{positions[combination]}"
                    positions[combination] += 1
                    if label and "person" not in domains and text not in seen:
                        seen.add(text)
                        meaning = f"{intent} {combination} {label} {block.get('slots')} {sorted(domains)}"
                        yield _Template(key, label, meaning, text, domains)

    def wording(self, template: _Template, split: Split, number: int) -> Command | None:
        """Draw a wording of a template, or return None if a slot has no words, only slots are left or it has digits."""

        meaning = [template.meaning]

        def fill(list_name: str, slot: str) -> Piece:
            rng = chance("fill", self.code, split, number, list_name, slot)
            words, tag = self._fill(list_name, slot, template.domains, split, rng)
            if slot == "volume_step":  # up or down: expressed by the list or by its words
                meaning.append(list_name if tag else words)
            return words, tag

        rng = chance("wording", template.key, number)
        try:
            text, spans = assemble(draw(parse(template.text), self.file["expansion_rules"], fill, rng))
        except Missing:
            return None
        rest = text
        for start, end, _ in reversed(spans):
            rest = rest[:start] + rest[end:]
        if not any(map(str.isalpha, rest)) or any(map(str.isdigit, text)):
            return None
        return Command(template.key, number, template.label, " ".join(meaning), text, tuple(spans))

    def _fill(self, list_name: str, slot: str, domains: frozenset[str], split: Split, rng: random.Random) -> Piece:
        def ours(words: list[str]) -> str:
            return rng.choice(words[0::2] if split == "train" else words[1::2])

        if list_name == "area":
            return ours(self.words["area"]), "area"
        if list_name in ("shopping_list_item", "todo_list_item"):
            return ours(self.words["item"]), "item"
        if list_name == "timer_name" or (list_name == "name" and domains & {"todo", "scene", "script"}):
            return ours(self.words["name"]), "name"
        if list_name == "name":
            return self._device(domains, ours, rng), "device"
        content = self.file["lists"].get(list_name, {})
        tag = "color" if list_name.startswith("color_temperature") else TAGS.get(slot)
        if "range" in content:
            if list_name == "color_temperature":
                raise Missing("thousands of kelvin")
            return ours(self.words["number"]), tag
        return self._value(list_name, rng), None if slot == "volume_step" else tag

    def _device(self, domains: frozenset[str], ours: Callable[[list[str]], str], rng: random.Random) -> str:
        if domains and domains <= {"cover", "valve"}:
            return self._value("cover_classes", rng)
        groups = ["light", "media", "climate"]
        if domains and not {"light", "switch"} <= domains:
            if len(domains) > 1 or not domains <= DEVICES.keys():
                raise Missing(f"name of {sorted(domains)}")
            groups = DEVICES[next(iter(domains))]
        return ours([word for group in groups for word in self.words[group]])

    def _value(self, list_name: str, rng: random.Random) -> str:
        values = self.file["lists"].get(list_name, {}).get("values")
        if not values:
            raise Missing(list_name)
        pieces = draw(parse(rng.choice(values)["in"]), self.file["expansion_rules"], _no_slots, rng)
        return "".join(text for text, _ in pieces)


def _no_slots(list_name: str, slot: str) -> Piece:
    raise Missing(f"{list_name} in a value")


@cache
def _fillers() -> dict[str, dict[str, list[str]]]:
    fillers: dict[str, dict[str, list[str]]] = yaml.safe_load(
        resources.files("tunexfer_starter").joinpath("fillers.yaml").read_text(encoding="utf-8")
    )
    return fillers


def _label(intent: str, response: str) -> str | None:
    short, first = intent.removeprefix("Hass"), response.split("_")[0]
    if first in OTHER_RESPONSES.get(short, ()):
        return None
    return LABELS.get(f"{short} {response}") or LABELS.get(f"{short} {first}") or LABELS.get(short)


def _domains(block: dict[str, Any]) -> frozenset[str]:
    """Return the domains that the template's device must have, and the one that the template sets itself."""
    asked = block.get("requires_context", {}).get("domain", [])
    return frozenset([asked] if isinstance(asked, str) else asked) | (
        {"person"} if block.get("slots", {}).get("domain") == "person" else frozenset()
    )


def commands_of(
    trains: Mapping[str, bool], on_progress: Callable[[float], None]
) -> dict[str, dict[Split, list[Command]]]:
    """Return the commands of every language by split. No template and no text is in two splits of a language.

    trains: language -> whether it has train rows; else its templates go to validation and test only
    """
    found: dict[str, dict[Split, list[Command]]] = {}
    for language, has_train in trains.items():
        found[language] = _commands(language, has_train)
        on_progress(len(found) / len(trains))
    held_out = {
        command.text for splits in found.values() for split in ("validation", "test") for command in splits[split]
    }
    for splits in found.values():  # a closely related language must not reveal held-out commands
        splits["train"] = [command for command in splits["train"] if command.text not in held_out]
    return found


def _commands(language: str, has_train: bool) -> dict[Split, list[Command]]:
    source = _Language(language)
    by_label: dict[str, list[_Template]] = defaultdict(list)
    for template in source.templates():
        by_label[template.label].append(template)
    dealt: dict[Split, list[_Template]] = {"test": [], "validation": [], "train": []}
    for label, templates in by_label.items():
        chance("deal", language, label).shuffle(templates)
        for template, split in zip(templates, cycle(SPLIT_CYCLES[has_train]), strict=False):
            dealt[split].append(template)
    texts: set[str] = set()
    result: dict[Split, list[Command]] = {split: [] for split in dealt}
    for split, templates in dealt.items():
        for number in range(math.ceil(WORDINGS[split] / max(1, len(templates)))):
            for template in templates:
                command = source.wording(template, split, number)
                if command and command.text not in texts:
                    texts.add(command.text)
                    result[split].append(command)
    return result
