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
