"""``share(model, "QKK")``: the attention of a loaded model, rebuilt in place with one of the fifteen ways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from qkvlab.designs import Design, Way, parse
from qkvlab.designs.bias import Bias
from qkvlab.designs.projections import Projections
from qkvlab.errors import BadInput, Refusal, unknown
from qkvlab.hf.families import Family, family_of, model_types
from qkvlab.hf.reading import Reading
from qkvlab.hf.report import Report
from qkvlab.hf.shared import Shared, mixed
from qkvlab.hf.starting import starting

CONFIG = "qkvlab_share"
"""Entry of a model's config that says which design each rebuilt layer has; `load` reads it."""


@dataclass(frozen=True, eq=False)
class Found:
    """One self-attention module of a known family.

    Attributes:
        layer: its place among them.
        module: itself.
        family: the file that handles it.
        read: its weights.
        angles: the model's maker of rotations, if it has one.
    """

    layer: int
    module: nn.Module
    family: Family
    read: Reading
    angles: nn.Module | None


def share(model: nn.Module, design: str | Design, *, layers: Iterable[int] | None = None) -> Report:
    """Rebuild a model's self-attention with a way to make q, k and v, in place, and keep all else.

    Norms, positions, windows, masks, dropout, attention function, cache classes and every matrix that the way still
    has stay the model's. Where a shared matrix starts is said in `qkvlab.hf.starting`. Nothing is changed unless all of
    the layers can be.

    Args:
        model: any model of transformers that holds attention of a known family.
        design: a way, such as ``"QKK"``; ``/kv2`` also sets the key heads, which are the model's own otherwise.
        layers: which self-attention layers, counted from 0; all of them unless given.

    Returns:
        What was kept and dropped, and what it saves.

    Raises:
        BadInput: an unknown model type or layer, weights that are not plain numbers, or a design that is not a way.
        Refusal: the design cannot hold these sizes; the text names the numbers.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_embd=24, n_head=4, n_layer=2))
    >>> share(model, "QKK").cache_per_token
    (96, 48)
    """
    way = _way(design)
    found = _chosen(model, layers)
    plans = [(each, *_plan(each, way)) for each in found]
    for each, fitted, projections in plans:
        _rebuild(each, projections)
        _note(model, each.layer, fitted)
    return _report(model, way, plans)


def _way(design: str | Design) -> Way:
    parsed = parse(design) if isinstance(design, str) else design
    if not isinstance(parsed, Way):
        raise BadInput(
            f"share takes one of the fifteen ways, with /kvN where wanted, such as QKK or QKV/kv2; got {parsed}. "
            "Norms, positions and windows stay the model's own."
        )
    return parsed


def _chosen(model: nn.Module, layers: Iterable[int] | None) -> list[Found]:
    found = list(_attention(model))
    if not found:
        kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        raise unknown("model type", str(kind), model_types())
    numbers = range(len(found)) if layers is None else list(dict.fromkeys(layers))
    wrong = [n for n in numbers if not isinstance(n, int) or not 0 <= n < len(found)]
    if wrong or not numbers:
        raise BadInput(f"layers must be among 0..{len(found) - 1}; got {wrong or 'none'}.")
    chosen = []
    for number in numbers:
        each = found[number]
        if isinstance(each, int):
            raise BadInput(f"layer {number} is already rebuilt; load the model anew to give it another design.")
        if "forward" in vars(each.module):
            raise BadInput(
                f"layer {number} has had its forward replaced on the module itself, as device_map does; "
                "load the model without that, share, then dispatch it."
            )
        chosen.append(each)
    return chosen


def _attention(model: nn.Module) -> Iterator[Found | int]:
    layer = 0
    for name, module in model.named_modules():
        if isinstance(module, Shared):
            yield layer
            layer += 1
        elif (family := family_of(module)) and (read := family.read(module)):
            yield Found(layer, module, family, read, _angles(model, name))
            layer += 1


def _angles(model: nn.Module, name: str) -> nn.Module | None:
    # the maker of rotations belongs to the nearest module around the layers
    while name:
        name = name.rpartition(".")[0]
        around = getattr(model.get_submodule(name), "rotary_emb", None)
        if around is not None:
            return around
    return None


def _plan(found: Found, way: Way) -> tuple[Way, Projections]:
    read = found.read
    groups = read.kv_heads if way.groups is None else way.groups
    sizes = f"layer {found.layer} has heads={read.dims.heads}, kv_heads={read.kv_heads}"
    if groups != read.dims.heads and way.pattern[0] in way.pattern[1:] and way.pattern[0] != "X":
        raise Refusal(
            f"{way} makes q and another role with one matrix, so kv_heads must equal heads; {sizes}. "
            "Take a way that leaves q its own matrix, such as QKK."
        )
    # without /kv a way has as many key heads as queries
    fitted = Way(way.pattern) if groups == read.dims.heads else replace(way, groups=groups)
    try:
        fitted.matrices(read.dims)
    except Refusal as refused:
        raise Refusal(f"{sizes} and cannot be {way}: {refused}") from None
    start = starting(fitted.pattern, groups, read)
    with torch.device("meta"):  # every number is set below
        biased = read.biases and start
        projections = (Bias(fitted, behind_out=False) if biased else fitted).build(read.dims)
    assert start.keys() == projections.weights.keys()
    for name, weight in start.items():
        setattr(projections, name, nn.Parameter(weight.contiguous()))
    frozen = not any(p.requires_grad for p in found.module.parameters())
    return fitted, projections.requires_grad_(not frozen)


def _rebuild(found: Found, projections: Projections) -> None:
    module: Any = found.module
    for name in found.family.PROJECTIONS:
        delattr(module, name)
    module.__class__ = mixed(found.family.Rebuilt, type(module))
    module.projections = projections.train(module.training)
    module.angles = () if found.angles is None else (found.angles,)
    if hasattr(module, "num_key_value_groups"):
        module.num_key_value_groups = found.read.dims.heads // projections.design.kv_heads(found.read.dims)


def _note(model: Any, layer: int, way: Way) -> None:
    noted = dict(getattr(model.config, CONFIG, None) or {})
    setattr(model.config, CONFIG, {**noted, str(layer): str(way)})


def _report(model: nn.Module, way: Way, plans: list[tuple[Found, Way, Projections]]) -> Report:
    reads = [found.read for found, _, _ in plans]
    return Report(
        model=type(model).__name__,
        design=plans[0][1],
        layers=tuple(found.layer for found, _, _ in plans),
        biased=any(read.biases for read in reads),
        kv_heads=(reads[0].kv_heads, plans[0][1].kv_heads(reads[0].dims)),
        parameters=(
            sum(read.parameters for read in reads),
            sum(p.numel() for _, _, projections in plans for p in projections.parameters()),
        ),
        cache_per_token=(
            sum(read.cache_per_token for read in reads),
            sum(fitted.cost(found.read.dims).cache_per_token for found, fitted, _ in plans),
        ),
        places_per_token=sum(
            fitted.kv_heads(found.read.dims)
            for found, fitted, _ in plans
            if found.angles is not None and fitted.own_keys is None
        ),
    )


def bare(model: nn.Module, noted: dict[str, str]) -> None:
    """Give the layers of a model that is about to be loaded the designs that its config names."""
    for name in dict.fromkeys(noted.values()):
        share(model, name, layers=[int(layer) for layer, each in noted.items() if each == name])
