"""A step that a CUDA device repeats by itself: small models keep a card waiting for Python, hundreds of times a step.

The first steps are taken kernel by kernel, as everywhere; then one is recorded as a CUDA graph, and all that follow are
its replays. They run the same kernels on the same memory in the same order, so that the numbers are the same. A step
that cannot be recorded, since it asks the device for a number, goes on kernel by kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 2
"""Steps until all that a kernel needs once is there: libraries, their workspaces, moments of the optimiser."""


class Recorded:
    """A step on a CUDA device, to be called with the data of each.

    Args:
        step: reads the data that it is given and writes, beside the losses that it returns, only what it read before:
            weights and moments, in place.
    """

    def __init__(self, step: Callable[..., Tensor]) -> None:
        self._step, self._left = step, float(WARM_UP)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._data: tuple[Tensor, ...] = ()
        self._losses = torch.empty(0)

    def __call__(self, *data: Tensor) -> Tensor:
        """Take one step; every call's data are shaped as the first's."""
        if self._left:
            self._left -= 1
            return self._beside(data)
        graph = self._graph or self._recorded(data)
        if graph is None:
            self._left = math.inf
            return self._beside(data)
        for mine, given in zip(self._data, data, strict=True):
            mine.copy_(given)
        graph.replay()
        return self._losses.clone()  # the next replay writes over them

    def _beside(self, data: tuple[Tensor, ...]) -> Tensor:
        # on a stream of its own, as it will be recorded
        here, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            losses = self._step(*data)
        here.wait_stream(stream)
        return losses

    def _recorded(self, data: tuple[Tensor, ...]) -> torch.cuda.CUDAGraph | None:
        self._data = tuple(given.clone() for given in data)
        torch.cuda.empty_cache()  # a graph has memory of its own, where the warm-up's is of no use to it
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):  # nothing is computed here: the first replay is the step
                self._losses = self._step(*self._data)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return None
        self._graph = graph
        return graph
