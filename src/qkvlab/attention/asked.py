"""What PyTorch is asked for beside numbers: gradients, graphs, transformations."""

from __future__ import annotations

import torch


def inside_func() -> bool:
    """Whether `torch.func` transforms what is computed."""
    return torch._C._are_functorch_transforms_active()  # no public name


def only_numbers() -> bool:
    """Whether a call computes and nothing else: no gradient is recorded, no graph traced, nothing transformed."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling() or inside_func())
