"""Reads the YAML of a recipe, and refuses keys that stand twice: one would have no effect."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

_MAX_DEPTH = 50
_MERGE = "tag:yaml.org,2002:merge"


class RepeatedKeyError(yaml.MarkedYAMLError):
    """A mapping has a key twice, itself or through a merge."""


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses repeated keys."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        first: dict[Any, Node] = {}
        for key_node in self._keys(node, set()):
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break
            if key in first:
                raise RepeatedKeyError(
                    f"the key {key!r} is given twice, first",
                    first[key].start_mark,
                    "and again here. Remove one of the two; a merge (<<) must not repeat a key either",
                    key_node.start_mark,
                )
            first[key] = key_node
        return super().construct_mapping(node, deep)

    def _keys(self, node: MappingNode, around: set[int]) -> Iterator[Node]:
        """Yield the keys of a mapping, with those that it merges."""
        if id(node) in around:
            raise RepeatedKeyError("a mapping merges itself", node.start_mark)
        for key, value in node.value:
            if key.tag != _MERGE:
                yield key
                continue
            merged = value.value if isinstance(value, SequenceNode) else [value]
            for mapping in merged:
                if isinstance(mapping, MappingNode):
                    yield from self._keys(mapping, around | {id(node)})


def load_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        yaml.YAMLError: it is no YAML, holds itself, or has a key twice in one mapping.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_finite(node, [], set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_finite(node: Node, around: list[Node], checked: set[int]) -> None:
    if id(node) in checked:
        return
    if any(node is other for other in around):
        raise yaml.MarkedYAMLError("an alias holds itself", node.start_mark)
    if len(around) > _MAX_DEPTH:
        raise yaml.MarkedYAMLError("it is nested too deep", node.start_mark)
    if isinstance(node, MappingNode):
        children = [child for pair in node.value for child in pair]
    else:
        children = node.value if isinstance(node, SequenceNode) else []
    for child in children:
        _check_finite(child, [*around, node], checked)
    checked.add(id(node))
