"""Where a shared matrix starts: rules per letter, on matrices with their bias as one more row.

    one role            its own matrix
    q and k             the tied head W W^T that is closest to W_Q W_K^T (`closest_tied`)
    v and another one   the mean of the two
    X                   nothing: the matrix is dropped

Other kv_heads than the model's: neighbouring heads are pooled by their mean (Ainslie et al., arXiv 2305.13245), or
repeated, which changes nothing. The reasons are in docs/hugging-face.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qkvlab.errors import Refusal
from qkvlab.hf.reading import ROLES, Reading, Role


def starting(pattern: str, groups: int, read: Reading) -> dict[str, Tensor]:
    """Return the matrix of each letter of a way, (d_model, heads * channels), and its bias, (1, heads * channels).

    They are called as in the design: ``k`` and ``k_bias``. Where the model has any bias, every letter has one.

    Args:
        pattern: the way.
        groups: its kv_heads.
        read: the model's own.

    Raises:
        Refusal: the model's heads can neither be pooled nor repeated to that many.
    """
    found = {}
    for letter in dict.fromkeys(pattern.replace("X", "")):
        roles: list[Role] = [role for role, name in zip(ROLES, pattern, strict=True) if name == letter]
        parts = {role: _heads(_with_bias(read, role), read.dims.heads, groups, read, role) for role in roles}
        starts = list(parts.values())
        if "q" in parts and "k" in parts:
            starts[:2] = [closest_tied(parts["q"], parts["k"], read.rotary)]
        rows = torch.stack(starts).mean(0)
        flat = rows.swapaxes(0, 1).flatten(1)  # (d + 1, h * c)
        found[letter.lower()] = flat[:-1]
        if read.biases:
            found[f"{letter.lower()}_bias"] = flat[-1:]
    return found


def closest_tied(q: Tensor, k: Tensor, rotary: int) -> Tensor:
    """Return W, (h, d, c), whose scores W W^T are nearest to the model's, in squared entries.

    Unrotated channels: the positive part of the symmetric part of W_Q W_K^T, which has rank c at most (Higham 1988).
    Rotated ones stay in their pairs, of one frequency each: a pair is one complex column, a score is
    Re(e^(i f back) x w_q w_k* x), and over all distances the nearest w w* is the positive part of the Hermitian part of
    w_q w_k*. That part has rank 2, so its one positive eigenvector has a closed form: the sum of both directions, the
    second one turned; the mean direction where w_k* w_q is real.

    Args:
        q: (h, d, c).
        k: likewise.
        rotary: channels that are rotated, the first with the one rotary / 2 further, and so on.
    """
    half = rotary // 2
    pairs = [torch.complex(w[..., :half], w[..., half:rotary]) for w in (q.double(), k.double())]
    lengths = [pair.norm(dim=-2, keepdim=True) for pair in pairs]
    u, v = (pair / length.clamp(min=1e-30) for pair, length in zip(pairs, lengths, strict=True))
    cosine = (v.conj() * u).sum(-2, keepdim=True)
    rest = (1 - cosine.imag**2).clamp(min=0).sqrt()
    way = u + torch.complex(rest, -cosine.imag) * v
    energy = lengths[0] * lengths[1] * (cosine.real + rest) / 2
    turned = way / way.norm(dim=-2, keepdim=True).clamp(min=1e-30) * energy.clamp(min=0).sqrt()
    straight = _positive_part(q[..., rotary:].double(), k[..., rotary:].double())
    return torch.cat([turned.real, turned.imag, straight], -1).to(q.dtype)


def _positive_part(q: Tensor, k: Tensor) -> Tensor:
    channels = q.shape[-1]
    if not channels:
        return q
    basis, r = torch.linalg.qr(torch.cat([q, k], -1))  # the score lives in at most 2 c directions
    product = r[..., :channels] @ r[..., channels:].mT
    values, vectors = torch.linalg.eigh((product + product.mT) / 2)
    values, vectors = values[..., -channels:], vectors[..., -channels:]
    made = basis @ (vectors * values.clamp(min=0).sqrt()[..., None, :])
    short = channels - made.shape[-1]  # where d is smaller than c
    return torch.nn.functional.pad(made, (0, short)) if short > 0 else made


def _with_bias(read: Reading, role: Role) -> Tensor:
    matrix = read.matrices[role]
    bias = read.biases.get(role)
    return torch.cat([matrix, matrix.new_zeros(1, matrix.shape[-1]) if bias is None else bias[None]])


def _heads(matrix: Tensor, heads: int, groups: int, read: Reading, role: Role) -> Tensor:
    # (d + 1, h * c) -> (h, d + 1, c), as many heads as the role shall have
    have, want = (heads, heads) if role == "q" else (read.kv_heads, groups)
    split = matrix.unflatten(-1, (have, -1)).swapaxes(0, 1)
    if have % want and want % have:
        raise Refusal(
            f"the model's key heads are pooled or repeated evenly; got kv_heads={have} and a design with /kv{want}."
        )
    if want >= have:
        return split.repeat_interleave(want // have, dim=0)
    return split.unflatten(0, (want, have // want)).mean(1)
