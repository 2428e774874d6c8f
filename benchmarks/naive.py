"""What everybody writes for each design of the catalogue, in the precision of its inputs; nothing is the layer's.

x (b, t, d)    q (b, h, t, c)    k (b, g, t, c)    v (b, u, t, e)    scores (b, h, t, t), all kept
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor


def naive(name: str, w: Mapping[str, Tensor], x: Tensor, *, heads: int, c: int, kv: int) -> Tensor:
    """Attend causally as the design of this name does: (b, t, d) -> (b, t, d).

    Args:
        name: canonical.
        w: the layer's matrices by name, and ``out`` (h e, d); ``out_bias`` if there is one.
        x: tokens that stand at 0, 1, 2, ...
        heads: h.
        c: channels of a query before parts change them.
        kv: key heads.
    """
    base, parts = _cut_name(name)
    x = _placed(x, parts, w)
    q, k, v, root = _latent(base, w, x, heads, c) if base.startswith("MLA") else _way(base, w, x, heads, c, kv)
    said, lambdas = [], None
    for part in parts:
        if part in ("qknorm",) or part.startswith("qknorm-"):
            tiny = float(part.partition("-eps")[2] or 1e-6)
            q, k = _rms(q, tiny) * w["q_gain"], _rms(k, tiny) * w["k_gain"]
        elif part.startswith("unitnorm"):
            q, k, root = q / q.norm(dim=-1, keepdim=True) * w["scale"], k / k.norm(dim=-1, keepdim=True), 1.0
        elif part == "unitkeys":
            k, root = k / k.norm(dim=-1, keepdim=True), 1.0
        elif part == "vnorm":
            v = _rms(v, 1e-6)
        elif part.startswith("rope"):
            how = part.removeprefix("rope").removeprefix("kv")
            q, k = _turned(q, how), _turned(k, how)
            v = _turned(v, how) if part.startswith("ropekv") else v
        elif part.startswith("diff"):
            lambdas = 0.8 - (0.6 * math.exp(0.3 - 0.3 * int(part[4:])) if part[4:] else 0.0)
        elif not re.fullmatch(r"(kv|rank|h|learned)\d+|bias(qkv)?|sin", part):  # the weights say these
            said.append(part)
    if lambdas is None:
        mixed = _mixed(q, k, v, root, said, w)
    else:
        mixed = _difference(q, k, v, root / math.sqrt(2), said, w, lambdas)
    flat = mixed.transpose(1, 2).flatten(2) @ w["out"]
    return flat + w["out_bias"] if "out_bias" in w else flat


def _cut_name(name: str) -> tuple[str, list[str]]:
    base, *parts = name.split("/")
    if base.startswith("MLA") and parts and parts[0].startswith("rope"):
        return f"{base}/{parts[0]}", parts[1:]
    return base, parts


def _placed(x: Tensor, parts: list[str], w: Mapping[str, Tensor]) -> Tensor:
    t, d = x.shape[1:]
    for part in parts:
        if part.startswith("learned"):
            x = x + w["places"][:t]
        if part == "sin":
            pair = torch.arange(d, dtype=torch.float64) // 2
            angle = torch.arange(t, dtype=torch.float64)[:, None] / 10000 ** (2 * pair / d)
            x = x + torch.where(torch.arange(d) % 2 == 0, angle.sin(), angle.cos()).to(x.dtype)
    return x


def _times(x: Tensor, w: Mapping[str, Tensor], name: str) -> Tensor:
    made = x @ w[f"{name}_down"] @ w[name] if f"{name}_down" in w else x @ w[name]
    return made + w[f"{name}_bias"] if f"{name}_bias" in w else made


def _heads(x: Tensor, count: int) -> Tensor:
    return x.view(*x.shape[:2], count, -1).transpose(1, 2)


def _way(base: str, w: Mapping[str, Tensor], x: Tensor, heads: int, c: int, kv: int) -> tuple[Tensor, ...]:
    if base == "uniform":
        zero = x.new_zeros(x.shape[0], heads, x.shape[1], c)
        return zero, zero, _heads(_times(x, w, "v"), heads), math.sqrt(c)
    pattern = {"frozen": "QKV", "QDQ": "QQV", "QMQ": "QQV", "QJQ": "QQV"}.get(base, base)
    q, k, v = (
        _heads(x if letter == "X" else _times(x, w, letter.lower()), count)
        for letter, count in zip(pattern, (heads, kv, kv), strict=True)
    )
    if base == "QDQ":
        q = q * torch.tensor([1, -1] * c, dtype=x.dtype)[:c]
    if base == "QMQ":
        q = q @ w["m"].view(heads, c, c)
    if base == "QJQ":
        q = torch.stack([-q[..., 1::2], q[..., ::2]], -1).flatten(-2)
    return q, k, v, math.sqrt(c)


def _latent(base: str, w: Mapping[str, Tensor], x: Tensor, heads: int, c: int) -> tuple[Tensor, ...]:
    _, _, how = base.partition("/rope")
    channels, growth = c, 1.0
    if "yarn" in how:
        gain = re.search(r"-gain([\d.]+)", how)
        by = re.search(r"-by([\d.]+)", how)
        growth = (float(gain[1]) if gain else 0.1 * math.log(float(by[1])) + 1) ** 2
        how = re.sub(r"-gain[\d.]+", "", how) + "-gain1"
    asked = _rms(_times(x, w, "dq"), 1e-6) * w["dq_gain"] if "dq" in w else x
    q = _heads(_times(asked, w, "q"), heads)
    c_kv = _rms(_times(x, w, "dkv"), 1e-6) * w["dkv_gain"]
    k, v = _heads(c_kv @ w["uk"], heads), _heads(c_kv @ w["uv"], heads)
    if "kr" in w:
        options = "-interleaved" + re.sub(r"^\d+", "", how)
        turned = _turned(_heads(_times(x, w, "kr"), 1), options)
        q = torch.cat([q, _turned(_heads(_times(asked, w, "qr"), heads), options)], -1)
        k = torch.cat([k, turned.expand(-1, heads, -1, -1)], -1)
        channels += turned.shape[-1]
    return q, k, v, math.sqrt(channels) / growth


def _rms(x: Tensor, tiny: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + tiny).sqrt()


def _turned(x: Tensor, options: str) -> Tensor:
    # tables in float64, turning in the precision of x
    first = re.search(r"-first(\d+)", options)
    n = int(first[1]) if first else x.shape[-1]
    number = {key: float(found) for key, found in re.findall(r"-(base|by|of|gain)([\d.]+)", options)}
    base, gain = number.get("base", 10000.0), 1.0
    pair = torch.arange(n // 2, dtype=torch.float64)
    speed = base ** (-2 * pair / n)
    if "-yarn" in options:  # 2309.00071, at its usual 32 and 1 turns
        ends = [n * math.log(number["of"] / (2 * math.pi * turns)) / (2 * math.log(base)) for turns in (32, 1)]
        low, high = max(math.floor(ends[0]), 0), min(math.ceil(ends[1]), n - 1)
        ramp = ((pair - low) / (high - low if high != low else 1e-3)).clamp(0, 1)
        speed = (1 - ramp) * speed + ramp * speed / number["by"]
        gain = number.get("gain", 0.1 * math.log(number["by"]) + 1)
    elif re.search(r"-(linear|ntk|llama3|proportional)", options):
        raise NotImplementedError(f"no naive code for the scaling of {options!r}: write it here")
    angle = torch.arange(x.shape[-2], dtype=torch.float64)[:, None] * speed
    cos, sin = (gain * angle.cos()).to(x.dtype), (gain * angle.sin()).to(x.dtype)
    head, rest = x[..., :n], x[..., n:]
    if "-interleaved" in options:
        a, b = head[..., ::2], head[..., 1::2]
        made = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    else:
        a, b = head.chunk(2, -1)
        made = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    return torch.cat([made, rest], -1)


def _mixed(q: Tensor, k: Tensor, v: Tensor, root: float, said: list[str], w: Mapping[str, Tensor]) -> Tensor:
    heads, t = q.shape[1], q.shape[2]
    k, v = (part.repeat_interleave(heads // part.shape[1], 1) for part in (k, v))
    scores = q @ k.mT / root
    back = torch.arange(t)[:, None] - torch.arange(t)
    seen = back >= 0
    sinks = None
    for part in said:
        if part.startswith("cap"):
            scores = float(part[3:]) * torch.tanh(scores / float(part[3:]))
        elif part == "alibi":
            scores = scores - (_slopes(heads)[:, None, None] * back).to(scores.dtype)
        elif part.startswith("window"):
            seen = seen & (back < int(part[6:]))
        elif part == "sink":
            sinks = w["sink"].view(-1)
        elif part != "noself":
            raise NotImplementedError(f"no naive code for /{part}: write it here")
    if "noself" in said:
        others = seen & (back != 0)
        seen = others | (~others.any(-1, keepdim=True) & seen)
    scores = scores.masked_fill(~seen, -math.inf)
    if sinks is not None:
        scores = torch.cat([scores, sinks[:, None, None].expand(scores.shape[0], heads, t, 1)], -1)
    return torch.softmax(scores, -1)[..., :t] @ v


def _slopes(heads: int) -> Tensor:
    power = 2 ** int(math.log2(heads))
    found = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    found += [2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)]
    return torch.tensor(found, dtype=torch.float64)


def _difference(
    q: Tensor, k: Tensor, v: Tensor, root: float, said: list[str], w: Mapping[str, Tensor], start: float
) -> Tensor:
    # Differential Transformer, 2410.05258, as two attentions and their difference
    halves = [_mixed(a, b, v, root, said, w) for a, b in zip(q.chunk(2, -1), k.chunk(2, -1), strict=True)]
    one, two = ((w[f"lq{i}"] * w[f"lk{i}"]).sum().exp() for i in "12")
    return _rms(halves[0] - (one - two + start) * halves[1], 1e-5) * w["gain"] * (1 - start)
