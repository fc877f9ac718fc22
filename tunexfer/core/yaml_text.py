"""YAML as suites and spaces are written: a repeated key is a mistake, and so is a word that YAML reads as true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.CSafeLoader):
    """Rejects a mapping with a repeated key, of which plain YAML silently keeps the last."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", node.start_mark)
    loader.flatten_mapping(node)
    return {loader.construct_object(key): loader.construct_object(value, deep=True) for key, value in node.value}


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(text: str) -> Any:
    """Parse YAML safely.

    raises: yaml.YAMLError, also for a key that is there twice
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        yaml.compose(text, yaml.SafeLoader)  # the slower parser's message quotes the line
        raise


def read_mapping(path: Path, form: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    form:   what the file is, for the message, 'a suite is a mapping with ...'
    raises: ValueError, naming the file, if it can't be read, is not YAML or no mapping, or repeats a key
    """
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = str(error).replace('in "<unicode string>", ', "in ")  # the file is named before
        raise ValueError(f"{path}: not YAML: {message}") from error
    except OSError as error:
        raise ValueError(f"{path}: can't be read: {error.strerror}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: {form}; got {'nothing' if raw is None else type(raw).__name__}")
    return raw


def dump_yaml(value: Any) -> str:
    """Write plain values as YAML, in their order."""
    text: str = yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def boolean_sentence(value: bool) -> str:
    """Say what happened to a word such as `no` where text is expected."""
    words = ("`yes`, `on` and `true` as true", "'yes'") if value else ("`no`, `off` and `false` as false", "'no'")
    return f"expected text, got {str(value).lower()}. YAML reads {words[0]}: write {words[1]} in quotes"
