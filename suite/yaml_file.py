"""Reading YAML safely, and strictly: a key that stands twice is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from suite.errors import SuiteError

# Larger than any experiment; a bound before anything is parsed.
MAX_BYTES = 1_000_000


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key that stands twice in one table."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # Before merge keys (<<) are expanded: overriding what they bring is their purpose.
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The table in a YAML file.

    Raises:
        SuiteError: it cannot be read, is not YAML, or holds something else.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SuiteError(f"{path}: must be at most {MAX_BYTES:,} bytes")
        data = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except OSError as error:
        raise SuiteError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: must be text in UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SuiteError(f"{path}{line}: is not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SuiteError(f"{path}: is not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(data, dict):
        raise SuiteError(f"{path}: must be a table of keys and values")
    return data
