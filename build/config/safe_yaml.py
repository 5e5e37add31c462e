"""YAML from strangers: no aliases, by which a short file holds values of any size."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["VALUE_ERRORS", "load_yaml"]

VALUE_ERRORS = (LookupError, TypeError, AttributeError, OverflowError)  # of PyYAML, for tags such as !!int


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, f"found the alias *{event.anchor}; write the value itself", event.start_mark
            )
        return super().compose_node(parent, index)


def load_yaml(text: str) -> Any:
    """Return what a YAML text holds.

    Raises:
        yaml.YAMLError, ValueError, RecursionError, or one of VALUE_ERRORS: If it is not such a text.
    """
    return yaml.load(text, _Loader)
