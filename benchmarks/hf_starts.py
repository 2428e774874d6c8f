"""Where should a shared matrix start? Rules tried on two small trained models, GPT-2 and Llama, then fine-tuned.

    python benchmarks/hf_starts.py results/<date>-benchmarks/hf_starts.json

Both learn characters of Python's documentation (`pydoc_data.topics`); each rule rebuilds a copy, which learns on with
the same batches. Held-out loss in nats per character right after rebuilding and after 20, 100 and 300 steps. One seed:
a difference of .01 says nothing. The model as trained learns on for 300 steps too, with other batches.
"""

import copy
import json
import sys
from pathlib import Path
from pydoc_data.topics import topics

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from qkvlab import hf
from qkvlab.hf import rebuilding, starting

STEPS, STOPS, BATCH, LENGTH = 700, (20, 100, 300), 16, 64
text = "".join(topics.values())
letters = {letter: number for number, letter in enumerate(sorted(set(text)))}
numbers = torch.tensor([letters[letter] for letter in text])
training, held_out = numbers[: len(numbers) * 9 // 10], numbers[len(numbers) * 9 // 10 :]


def models():
    common = {"vocab_size": len(letters), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    none = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    yield "gpt2", GPT2LMHeadModel(GPT2Config(**common, **none, n_embd=96, n_head=4, n_layer=3, n_positions=LENGTH))
    yield "llama", LlamaForCausalLM(LlamaConfig(**common, hidden_size=96, num_attention_heads=4, num_hidden_layers=3,
                                                intermediate_size=256, max_position_embeddings=LENGTH))  # fmt: skip


def batch(drawn, source):
    return torch.stack(
        [source[at : at + LENGTH] for at in torch.randint(len(source) - LENGTH, (BATCH,), generator=drawn)]
    )


@torch.no_grad()
def judged(model):
    drawn = torch.Generator().manual_seed(9)
    model.eval()
    pieces = [batch(drawn, held_out) for _ in range(40)]
    return round(sum(model(piece, labels=piece).loss.item() for piece in pieces) / len(pieces), 3)


def learn(model, steps, rate, seed):
    drawn, optimizer = torch.Generator().manual_seed(seed), torch.optim.AdamW(model.parameters(), lr=rate)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 20)
        piece = batch(drawn, training)
        optimizer.zero_grad()
        model(piece, labels=piece, use_cache=False).loss.backward()
        optimizer.step()


def one(role):
    return lambda parts, read: parts[role]


def mean(parts, read):
    return torch.stack(list(parts.values())).mean(0)


def closest(parts, read):
    return starting.closest_tied(parts["q"], parts["k"], read.rotary)


def closest_and_v(parts, read):
    return (closest(parts, read) + parts["v"]) / 2


RULES = {
    "QQV": {"closest tied scores": closest, "mean": mean, "W_Q": one("q"), "W_K": one("k")},
    "QKK": {"mean": mean, "W_K": one("k"), "W_V": one("v")},
    "QKQ": {"mean": mean, "W_Q": one("q"), "W_V": one("v")},
    "QQQ": {"mean of closest tied scores and W_V": closest_and_v, "mean": mean, "closest tied scores": closest,
            "W_V": one("v")},
    "QKV/kv2": {"pooled heads": mean},
    "XKV": {"W_Q dropped": mean},
    "QXV": {"W_K dropped": mean},
    "QKX": {"W_V dropped": mean},
}  # fmt: skip


def by(rule):
    """`starting` with another rule for letters of several roles."""

    def start(pattern, groups, read):
        found = {}
        for letter in dict.fromkeys(pattern.replace("X", "")):
            roles = [role for role, name in zip("qkv", pattern, strict=True) if name == letter]
            parts = {r: starting._heads(starting._with_bias(read, r), read.dims.heads, groups, read, r) for r in roles}
            flat = (rule(parts, read) if len(roles) > 1 else parts[roles[0]]).swapaxes(0, 1).flatten(1)
            found[letter.lower()] = flat[:-1]
            if read.biases:
                found[f"{letter.lower()}_bias"] = flat[-1:]
        return found

    return start


def main(out):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for name, model in models():
        learn(model, STEPS, 2e-3, 1)
        rows.append({"model": name, "design": "as trained", "rule": "", "loss": [judged(model)]})
        whole = copy.deepcopy(model)
        learn(whole, STOPS[-1], 1e-3, 3)
        rows[-1]["loss"].append(judged(whole))
        for design, rules in RULES.items():
            for label, rule in rules.items():
                copied, done = copy.deepcopy(model), 0
                rebuilding.starting = by(rule)
                hf.share(copied, design)
                losses = [judged(copied)]
                for seed, stop in enumerate(STOPS):
                    learn(copied, stop - done, 1e-3, 3 + seed)
                    done = stop
                    losses.append(judged(copied))
                rows.append({"model": name, "design": design, "rule": label, "loss": losses})
                print(rows[-1], flush=True)
    stated = {"steps_before": STEPS, "steps_after": [0, *STOPS], "torch": torch.__version__, "rows": rows}
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(json.dumps(stated, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
