"""Where two registrations differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, str, str]]:
    """Yield where two JSON values differ: the place, what is there, what was asked."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            name = key if key.isidentifier() else _brief(key)
            deeper = f"{path}.{name}" if path else name
            if key not in old:
                yield deeper, "nothing", _brief(new[key])
            elif key not in new:
                yield deeper, _brief(old[key]), "nothing"
            else:
                yield from differences(deeper, old[key], new[key])
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(f"{path}[{at}]", *pair)
    elif repr(old) != repr(new):  # as text, since 1, 1.0 and true are three things
        yield path, _brief(old), _brief(new)


def _brief(value: Any) -> str:
    text = repr(value)
    if len(text) <= 60:
        return text
    return f"{len(value)} items {text[:40]}..." if isinstance(value, list) else f"{text[:50]}..."
