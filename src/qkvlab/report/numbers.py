"""Numbers as people read them: a true minus sign, few digits, a dash where there is nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable

NOTHING = "–"


def plain(value: float | None, digits: int = 3) -> str:
    """Write a number with a fixed count of digits.

    >>> plain(-0.01234), plain(float("nan"))
    ('−0.012', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """Write a difference, its sign always there.

    >>> signed(0.2), signed(-0.0001)
    ('+0.200', '0.000')
    """
    text = plain(value, digits)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.") else text


def short(value: float | None) -> str:
    """Write a registered number as it was meant: 0.05, 0.003.

    >>> short(0.05), short(0.000390625), short(None)
    ('0.05', '0.00039', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    digits = 2 if 0 < abs(value) < 0.001 else 4
    return f"{value:.{digits}g}".replace("-", "−")


def digits(delta: float) -> int:
    """Return how many digits show a difference of delta well: its fifth part is visible, and never fewer than two.

    >>> digits(0.05), digits(0.02)
    (2, 3)
    """
    return max(2, math.ceil(-math.log10(delta / 5) - 1e-9))


def whole(value: int) -> str:
    """Write a count with its thousands apart.

    >>> whole(40704)
    '40,704'
    """
    return f"{value:,}"


def percent(share: float) -> str:
    """Write a share in whole percent.

    >>> percent(0.123), percent(float("nan"))
    ('12%', '–')
    """
    return f"{100 * share:.0f}%" if math.isfinite(share) else NOTHING


def span(values: Iterable[float], digits: int = 2) -> str:
    """Write the least and the largest value, or one number where both read the same.

    >>> span([0.41, 0.66, 0.5]), span([38, 38], digits=0)
    ('0.41–0.66', '38')
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return NOTHING
    low, high = plain(min(finite), digits), plain(max(finite), digits)
    return low if low == high else f"{low}–{high}"


def duration(seconds: float, lang: str) -> str:
    """Seconds in the unit that people would use, with what counts.

    >>> [duration(s, "en") for s in (0.4, 45, 400, 20_000, 10**6, 10**9)]
    ['1 s', '45 s', '7 min', '5.6 h', '12 d', '32 y']
    >>> duration(20_000, "zh")
    '5.6 小时'
    """
    units = ((90, 1, "s", "秒"), (5400, 60, "min", "分"), (172_800, 3600, "h", "小时"), (31_536_000, 86_400, "d", "天"))
    size, en, zh = next(((size, en, zh) for most, size, en, zh in units if seconds < most), (31_536_000, "y", "年"))
    count = seconds / size
    text = f"{count:.1f}" if size >= 3600 and count < 9.95 else f"{max(count, seconds > 0):,.0f}"
    return f"{text} {zh if lang == 'zh' else en}"
