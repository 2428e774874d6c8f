"""Put a design into your own model, and look inside it."""

import torch

import qkvlab

torch.manual_seed(0)
x = torch.randn(2, 10, 64)  # (batch, tokens, d_model)

attn = qkvlab.Attention("QQV", d_model=64, heads=8)  # one matrix for Q and K
y = attn(x, causal=True)
print(tuple(y.shape), attn.design.words.en)

# cross-attention: what a source leaves behind is what a cache would keep
source = torch.randn(2, 7, 64)
memory = attn.remember(source)
print({name: tuple(kept.shape) for name, kept in memory.kept.items()})
print(tuple(attn(x, memory).shape))

# everything that was computed on the way
trace = attn.trace(x)
scores = trace.scores[0, 0]
print("scores of a tied head are symmetric:", torch.allclose(scores, scores.mT, atol=1e-6))
print(
    "share of rows that look most at themselves:", (trace.weights.argmax(-1) == torch.arange(10)).float().mean().item()
)
