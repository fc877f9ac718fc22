"""YAML as suites and spaces are written: a repeated key is a mistake, and so is a word that YAML reads as true."""

from __future__ import annotations

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


def boolean_sentence(value: bool) -> str:
    """Say what happened to a word such as `no` where text is expected."""
    words = ("`yes`, `on` and `true` as true", "'yes'") if value else ("`no`, `off` and `false` as false", "'no'")
    return f"expected text, got {str(value).lower()}. YAML reads {words[0]}: write {words[1]} in quotes"
