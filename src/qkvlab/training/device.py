"""Which devices a study may name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qkvlab.errors import BadInput

_KNOWN = re.compile(r"cpu|mps|cuda(:[0-9]{1,4}(,[0-9]{1,4})*)?")


@dataclass(frozen=True)
class Devices:
    """What is trained on.

    Attributes:
        kind: cpu, cuda or mps, as PyTorch calls the device in a worker.
        cards: GPUs by number, for those who named some.
    """

    kind: str
    cards: tuple[int, ...] = ()


CPU = Devices("cpu")


def parse(text: str) -> Devices:
    """Read ``cpu``, ``mps``, ``cuda`` (the first GPU), ``cuda:1`` or ``cuda:0,1``.

    Raises:
        BadInput: anything else.

    >>> parse("cuda:0,2")
    Devices(kind='cuda', cards=(0, 2))
    """
    if not _KNOWN.fullmatch(text):
        raise BadInput(f"device must be cpu, mps, cuda, cuda:N or several as in cuda:0,1; got {text!r}.")
    kind, _, numbers = text.partition(":")
    cards = tuple(int(number) for number in numbers.split(",") if number)
    if len(set(cards)) < len(cards):
        raise BadInput(f"device {text!r} names a GPU twice.")
    return Devices(kind, cards)


def check(devices: Devices) -> None:
    """Refuse devices that this machine does not have.

    Raises:
        BadInput: PyTorch sees none of the kind, or not these cards.
    """
    if devices.kind == "cpu":
        return
    import torch

    if devices.kind == "mps":
        ready, have = torch.backends.mps.is_available(), 0
    else:
        ready, have = torch.cuda.is_available(), torch.cuda.device_count()
    if not ready:
        raise BadInput(f"this PyTorch sees no {devices.kind} device; leave --device out to run on the CPU.")
    missing = [card for card in devices.cards if card >= have]
    if missing:
        raise BadInput(f"device cuda:{missing[0]} is not there: this machine has cuda:0 to cuda:{have - 1}.")


def settle(device: str) -> None:
    """Wait until a device has done all that it was asked: it works on while Python goes on."""
    import torch

    if not device.startswith("cpu"):
        torch.accelerator.synchronize()
