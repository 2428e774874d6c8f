"""Why a text is not the name of a design: what stands in the wrong place, or what comes nearest."""

from __future__ import annotations

import re
from collections.abc import Iterable

from qkvlab.designs.around import Around
from qkvlab.designs.design import Design
from qkvlab.designs.ways import Way
from qkvlab.errors import BadInput, unknown


def pieces(examples: Iterable[Design]) -> tuple[str, ...]:
    """Return one piece of a name for each part that the examples show, such as ``rope`` and ``window3``.

    >>> from qkvlab.designs import parse
    >>> pieces([parse("QKV/kv2/window3"), parse("QKK/window7"), parse("QKV/rope")])
    ('kv2', 'rope', 'window3')
    """
    found = {"kv": "kv2"}
    for design in examples:
        if isinstance(design, Around):
            piece = design.name.removeprefix(f"{design.inner.name}/")
            found.setdefault(re.split("[0-9-]", piece)[0], piece)
    return tuple(sorted(found.values()))


def misread(inner: Design, last: str, examples: Iterable[Design]) -> BadInput:
    """Build the error for a last piece that is no part: key heads behind other parts, or a part that does not exist.

    Args:
        inner: what stands before the last slash.
        last: what stands behind it.
        examples: designs that show every part, at usual numbers.
    """
    if re.fullmatch("kv[0-9]{1,6}", last, re.ASCII | re.IGNORECASE) is None:
        return unknown(f"part behind {inner.name}:", last, pieces(examples))
    heads, base = last.lower(), inner
    while isinstance(base, Around):
        base = base.inner
    if isinstance(base, Way):
        better = f"{base.pattern}/{heads}{inner.name.removeprefix(base.name)}"
        return BadInput(f"/{heads} stands once, right behind the three letters: write {better}.")
    return BadInput(f"/{heads} groups the key heads of the fifteen ways, as in QKV/{heads}; {base.name} is none.")
