"""Large numbers in few characters."""

from __future__ import annotations

_DECIMAL = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def short(number: int) -> str:
    """Three digits that count and the unit; small numbers whole.

    >>> short(67_108_864), short(8192), short(576), short(999_999), short(0)
    ('67.1M', '8.19k', '576', '1.00M', '0')
    """
    return _scaled(number, 1000, _DECIMAL, "")


def short_bytes(number: int) -> str:
    """Bytes in powers of 1024.

    >>> short_bytes(16384), short_bytes(1152), short_bytes(100)
    ('16.0 KiB', '1.12 KiB', '100 B')
    """
    return _scaled(number, 1024, _BINARY, " ")


def ratio(a: int, b: int) -> str:
    """How many times b a is.

    >>> ratio(4096, 8192), ratio(8192, 8192), ratio(1, 8192), ratio(0, 8192)
    ('0.50', '1.00', '0.00012', '0')
    """
    times = a / b
    return f"{times:.2f}" if times >= 0.1 else f"{times:.2g}"


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


def _scaled(number: int, step: int, units: tuple[str, ...], space: str) -> str:
    if number < step:
        return f"{number}{space}{units[0]}"
    size, power = float(number), 0
    while size >= step and power < len(units) - 1:
        size, power = size / step, power + 1
    text = _three(size)
    if float(text) >= step:
        text, power = _three(size / step), power + 1
    return f"{text}{space}{units[power]}"


def _three(size: float) -> str:
    return f"{size:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"
