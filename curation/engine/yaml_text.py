"""Reads YAML that people write, and refuses what YAML reads in another way than it looks.

A key that stands twice would have no effect, and `010` is the number 8.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

_MAX_DEPTH = 50
_MAX_VALUES = 100_000
"""Values of a file, those of an alias as often as it stands."""
_SHOWN = 100
_MERGE = "tag:yaml.org,2002:merge"
_SURROGATE = re.compile("[\ud800-\udfff]")
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_OTHER_BASE = re.compile(r"[-+]?(?:0[0-9_]+|[0-9][0-9_]*(?::[0-9]+)+(?:\.[0-9_]*)?)")
"""Numbers that YAML 1.1 reads to the base 8 or 60, and YAML 1.2 does not."""


class RepeatedKeyError(yaml.MarkedYAMLError):
    """A mapping has a key twice, itself or through a merge."""


class OtherBaseError(yaml.MarkedYAMLError):
    """A number is to the base 8 or 60, though it looks decimal."""


class UnreadableValueError(yaml.MarkedYAMLError):
    """A value is not valid for its type."""


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses repeated keys, and numbers to a base that they do not show."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            # YAML reads `2024-13-45` as a date, and any text as one if a tag says so.
            raise UnreadableValueError(
                problem=f"{str(node.value)[:_SHOWN]!r} cannot be read ({error})",
                problem_mark=node.start_mark,
            ) from error

    def construct_scalar(self, node: ScalarNode | MappingNode) -> Any:
        value = super().construct_scalar(node)
        if not isinstance(value, str) or not _SURROGATE.search(value):
            return value
        try:
            # JSON, which YAML includes, writes an emoji as two of them.
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError as error:
            raise UnreadableValueError(
                problem=f"{value[:_SHOWN]!r} holds half of a surrogate pair, which is no character",
                problem_mark=node.start_mark,
            ) from error

    def construct_decimal(self, node: ScalarNode) -> int | float:
        is_whole = node.tag == _INT
        construct = self.construct_yaml_int if is_whole else self.construct_yaml_float
        number: int | float = construct(node)
        if _OTHER_BASE.fullmatch(node.value):
            raise OtherBaseError(
                problem=f"YAML reads {node.value} as {number}. Write the number that you mean in "
                "digits without a leading zero or a colon; a text of these characters in quotes",
                problem_mark=node.start_mark,
            )
        return number

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


for _tag in (_INT, _FLOAT):
    _Loader.add_constructor(_tag, _Loader.construct_decimal)


def load_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        yaml.YAMLError: it is no YAML, holds itself or too many values, has a key twice in one mapping,
            a value that is not valid for its type, or a number to the base 8 or 60.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count_values(node, [], {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _count_values(node: Node, around: list[Node], counts: dict[int, int]) -> int:
    """Return the number of values in a node, with those of its aliases.

    Raises:
        yaml.MarkedYAMLError: it holds itself, is nested too deep, or holds too many.
    """
    if id(node) in counts:
        return counts[id(node)]
    if any(node is other for other in around):
        raise yaml.MarkedYAMLError("an alias holds itself", node.start_mark)
    if len(around) > _MAX_DEPTH:
        raise yaml.MarkedYAMLError("it is nested too deep", node.start_mark)
    if isinstance(node, MappingNode):
        children = [child for pair in node.value for child in pair]
    else:
        children = node.value if isinstance(node, SequenceNode) else []
    count = 1 + sum(_count_values(child, [*around, node], counts) for child in children)
    if count > _MAX_VALUES:
        raise yaml.MarkedYAMLError(
            problem=f"it holds more than {_MAX_VALUES:,} values, as aliases of aliases do. Write it "
            "without them",
            problem_mark=node.start_mark,
        )
    counts[id(node)] = count
    return count
