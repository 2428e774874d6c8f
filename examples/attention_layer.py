"""Put a design into your own model: cross-attention, decoding with its cache, and what each token contributed."""

import torch

import qkvlab

torch.manual_seed(0)
x = torch.randn(2, 10, 64)  # (batch, tokens, d_model)

attn = qkvlab.Attention("QKK/kv2/rope", d_model=64, heads=8)  # one matrix for K and V, two key heads, rotary positions
y = attn(x, causal=True)
print(tuple(y.shape), attn.design.words.en)

# cross-attention: a source is remembered once, as a cache would keep it, and asked as often as needed
memory = attn.remember(torch.randn(2, 7, 64))
print("kept of the source:", {name: tuple(kept.shape) for name, kept in memory.kept.items()})
print(tuple(attn(x, memory, padding=torch.tensor([7, 4])).shape))

# decoding: a prompt at once, then one token after the other; the cache holds what the design keeps and no more
cache = attn.new_cache(batch=2, max_tokens=10)
steps = [attn.step(x[:, :6], cache), *(attn.step(x[:, i : i + 1], cache) for i in range(6, 10))]
print(cache)
print("step by step as all at once:", torch.allclose(torch.cat(steps, 1), y, atol=1e-5))

# who brought what: the output of each token, split into what every token gave through every head
trace = attn.trace(x, causal=True)
parts = trace.contributions()  # (batch, heads, queries, keys, d_model)
print("contributions sum to the output:", torch.allclose(parts.sum((1, 3)), y, atol=1e-5))
sizes = parts[0, :, -1].norm(dim=-1)  # of the last token of the first text: (heads, keys)
head, key = divmod(sizes.argmax().item(), sizes.shape[1])
print(f"most came from token {key} through head {head}, with weight {trace.weights[0, head, -1, key].item():.2f}")

# a tied design looks different inside: its scores are symmetric
tied = qkvlab.Attention("QQV", d_model=64, heads=8).trace(x)
print("scores of a tied head are symmetric:", torch.allclose(tied.scores, tied.scores.mT, atol=1e-6))
