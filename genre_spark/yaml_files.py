"""YAML files of the user's: read once, safely, and never with a key that silently replaces another."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from genre_spark.errors import GenreSparkError


def read_mapping(file: Path, what: str, error: type[GenreSparkError]) -> dict[Any, Any]:
    """Read a YAML file that holds a mapping.

    Parameters
    ----------
    file : Path
        A file or a pipe, such as bash's ``<(...)``.
    what : str
        What it holds, for messages.
    error : type of GenreSparkError
        Raised if the file can't be read, is no YAML, no mapping, or has a key twice in a mapping.

    Returns
    -------
    dict
        Empty where the file is. Nothing but plain values is constructed.
    """
    try:
        # SafeLoader's subclass: no tag of it makes an object of any other type, or calls anything.
        content = yaml.load(file.read_text(encoding="utf-8"), _EachKeyOnce)  # noqa: S506
    except OSError as reason:
        raise error(f"{file}: {what} can't be read: {reason.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as reason:
        raise error(f"{file}: not YAML: {' '.join(str(reason).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise error(f"{file}: {what} must be a mapping, not {type(content).__name__}")
    return content


class _EachKeyOnce(yaml.SafeLoader):
    """YAML forbids a key that stands twice in a mapping, PyYAML takes the last: half of a section would be gone."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                key = (key_node.tag, key_node.value)
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key_node.value!r} stands there twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)
