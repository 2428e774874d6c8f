"""Which devices a study may name."""

from __future__ import annotations

from qkvlab.errors import BadInput


def check(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        BadInput: not cpu, cuda, cuda:N or mps, or not there.
    """
    if device == "cpu":
        return
    kind = device.split(":")[0]
    if kind not in ("cuda", "mps"):
        raise BadInput(f"device must be cpu, cuda, cuda:N or mps; got {device!r}.")
    import torch

    ready = torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()
    if not ready:
        raise BadInput(f"this PyTorch sees no {kind} device; leave --device out to run on the CPU.")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
