"""Lines of a terminal for text without spaces between words."""

from __future__ import annotations

import re

from rich.cells import cell_len

_CLOSING = "，。；：、！？）”…·%"
_OPENING = "（“《"
_PIECES = re.compile(rf"[{_OPENING}]*(?:[!-~]+|.)[{_CLOSING}]* ?", re.DOTALL)


def folded(text: str, width: int) -> str:
    """Break Chinese between any two characters, and words of Latin letters only where they end.

    No line begins with a mark that closes something, or ends with one that opens. Widths are in terminal cells; a wide
    character takes two.

    >>> folded("直接拿 x 当 Q，只能找到原词", 10)
    '直接拿 x\\n当 Q，只能\\n找到原词'
    >>> folded("旋转位置（相邻）", 10)
    '旋转位置\\n（相邻）'
    """
    lines, line = [], ""
    for piece in _PIECES.findall(text):
        if line and cell_len((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece if line else piece.lstrip()
    return "\n".join([*lines, line.rstrip()])
