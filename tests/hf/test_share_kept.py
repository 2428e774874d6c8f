"""A shared model is saved, loaded, trained and told about; and its shared matrices start where it is said."""

import copy
from pydoc_data.topics import topics

import pytest
import tiny
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from qkvlab import hf
from qkvlab.errors import BadInput
from qkvlab.hf.families import family_of
from qkvlab.hf.starting import closest_tied

FLOAT64 = torch.float64


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "gemma3_text"])
def test_its_state_loads_into_a_freshly_shared_model(name):
    model, fresh = tiny.model(name), tiny.redraw(tiny.MAKERS[name](), seed=5).eval()
    for each in (model, fresh):
        hf.share(each, "QKK")
    fresh.set_attn_implementation("eager")
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(tiny.tokens()).logits, model(tiny.tokens()).logits)


@pytest.mark.parametrize(("name", "design"), [("gpt2", "QQV"), ("llama", "QKK"), ("bert", "XXX"), ("gpt_oss", "QKK")])
def test_it_comes_back_from_where_it_was_saved(name, design, tmp_path):
    model = tiny.model(name)
    kind = type(model)
    hf.share(model, design, layers=[1])
    model.save_pretrained(tmp_path)
    back = hf.load(kind, tmp_path, attn_implementation="eager")
    assert type(back) is kind
    state, wanted = back.state_dict(), model.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)
    assert torch.equal(back.eval()(tiny.tokens()).logits, model(tiny.tokens()).logits)


def test_a_model_that_was_never_shared_is_not_loaded_as_one(tmp_path):
    tiny.model("llama").save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="holds no model that share has rebuilt"):
        hf.load(LlamaForCausalLM, tmp_path)


def text(count, length=48):
    """Pieces of Python's documentation as numbers of ASCII characters."""
    whole = torch.tensor(list("".join(topics.values()).encode("ascii", "replace")[: count * length]))
    return whole.view(count, length)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_training_lowers_the_loss_and_checkpointing_changes_no_gradient(name):
    torch.manual_seed(0)
    sizes = {"vocab_size": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if name == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(**sizes, n_embd=32, n_head=4, n_layer=2, n_positions=64,
                                           attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0))  # fmt: skip
    else:
        model = LlamaForCausalLM(tiny.hf.LlamaConfig(**sizes, hidden_size=32, num_attention_heads=4, head_dim=6,
                                 num_key_value_heads=2, num_hidden_layers=2, intermediate_size=64))  # fmt: skip
    hf.share(model, "QKK")
    pieces = text(64)
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            model.activation_checkpointing_enable()
        model.train().zero_grad()
        model(pieces[:8], labels=pieces[:8], use_cache=False).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-6)
    shared = [p for key, p in model.named_parameters() if "projections" in key]
    assert shared
    before = [p.detach().clone() for p in shared]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(20):
        batch = pieces[step % 4 * 16 :][:16]
        loss = model(batch, labels=batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
    assert all(not torch.equal(p, old) for p, old in zip(shared, before, strict=True))


def test_the_report_says_it_in_words():
    report = hf.share(tiny.model("llama"), "QKK/kv1")
    assert report.parameters == (2 * 24 * 10 * (4 + 2 + 2), 2 * 24 * 10 * (4 + 1))
    assert (report.cache_per_token, report.places_per_token) == ((80, 20), 2)
    assert report.words.en.splitlines() == [
        "LlamaForCausalLM: 2 layers (0, 1) rebuilt as QKK/kv1: one matrix for K and V; 1 key head.",
        "  Q: the model's matrix, kept",
        "  K and V: one matrix, starting from the mean of both",
        "  key heads: 2 → 1, neighbours pooled by their mean",
        "  parameters that make q, k and v: 3,840 → 2,400 (-38%)",
        "  numbers kept per token: 80 → 20 (-75%)",
        "  and 2 whole numbers per token for positions, since keys are rotated when they are used",
        "  all else is the model's own: positions, norms, windows, masks, cache classes, dropout, W_O",
    ]
    assert len(report.words.zh.splitlines()) == 8
    assert str(report) == f"{report.words.zh}\n\n{report.words.en}"


def test_the_report_counts_what_stands_in_the_model():
    for name, design in (("gpt2", "QQV"), ("bert", "QXV"), ("qwen3", "QKK"), ("gpt_neox", "XXX")):
        model = tiny.model(name)
        before = model.num_parameters()
        report = hf.share(model, design)
        assert before - model.num_parameters() == report.parameters[0] - report.parameters[1]
    assert "matrix and bias dropped, x itself" in report.words.en


def heads(count, rows, channels, seed=0):
    return torch.randn(count, rows, channels, generator=torch.Generator().manual_seed(seed), dtype=FLOAT64)


def test_the_tied_start_is_the_positive_part_of_the_symmetric_part():
    q, k = heads(3, 11, 4), heads(3, 11, 4, 1)
    w = closest_tied(q, k, rotary=0)
    for a, b, made in zip(q, k, w, strict=True):
        values, vectors = torch.linalg.eigh((a @ b.T + b @ a.T) / 2)
        want = vectors @ torch.diag(values.clamp(min=0)) @ vectors.T
        torch.testing.assert_close(made @ made.T, want)


def test_the_tied_start_is_of_the_head_and_not_of_how_it_is_stored():
    q, k, mixed = heads(2, 11, 4), heads(2, 11, 4, 1), heads(2, 4, 4, 2)
    same = closest_tied(q @ mixed, k @ torch.linalg.inv(mixed).mT, rotary=0)  # the same scores
    w = closest_tied(q, k, rotary=0)
    torch.testing.assert_close(same @ same.mT, w @ w.mT)


def turn(w, angles, rotary):
    """Rotate the first ``rotary`` channels, first half with second half: (d, c)."""
    half = rotary // 2
    a, b = w[:, :half], w[:, half:rotary]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos, w[:, rotary:]], 1)


def far(q, k, w, rotary):
    """Mean squared difference of the scores of every pair of directions, over distances that fill every circle."""
    total = 0.0
    for distance in range(64):
        angles = distance / 64 * 2 * torch.pi * torch.tensor([1.0, 3.0], dtype=FLOAT64)
        total += ((turn(q, angles, rotary) @ k.T - turn(w, angles, rotary) @ w.T) ** 2).sum()
    return total / 64


def test_the_tied_start_of_rotated_heads_is_the_nearest_over_all_distances():
    q, k = heads(1, 11, 6), heads(1, 11, 6, 1)
    w = closest_tied(q, k, rotary=4)
    best = far(q[0], k[0], w[0], 4)
    noise = heads(24, 11, 6, 2)
    for size in (0.03, 0.3):
        assert all(far(q[0], k[0], w[0] + size * n, 4) > best for n in noise)
    for other in (q[0], k[0], (q[0] + k[0]) / 2):
        assert far(q[0], k[0], other, 4) > best


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "bert"])
def test_a_model_that_is_tied_already_stays_itself(name):
    model, ids = tiny.model(name), tiny.tokens()
    twin = copy.deepcopy(model)
    for module in [m for m in twin.modules() if family_of(m)]:
        if name == "bert":
            module.key.load_state_dict(module.query.state_dict())
            continue
        fused = module.c_attn if name == "gpt2" else module.query_key_value
        for part in (fused.weight.data, fused.bias.data):
            if name == "gpt2":
                width = part.shape[-1] // 3
                part[..., width : 2 * width] = part[..., :width]
            else:
                cut = part.unflatten(0, (tiny.HEADS, 3, -1))
                cut[:, 1] = cut[:, 0]
    want = twin(ids).logits
    hf.share(twin, "QQV")
    torch.testing.assert_close(twin(ids).logits, want, rtol=0, atol=2e-5)
