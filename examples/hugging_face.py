"""Rebuild the attention of a Hugging Face model so that K and V share a matrix, train it, generate with it, keep it."""

import tempfile
from pydoc_data.topics import topics

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from qkvlab import hf

torch.manual_seed(0)
# a tiny random Llama that reads characters; yours comes from LlamaForCausalLM.from_pretrained(...)
config = LlamaConfig(
    vocab_size=128, hidden_size=48, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2,
    intermediate_size=96, bos_token_id=None, eos_token_id=None, pad_token_id=0,
)  # fmt: skip
model = LlamaForCausalLM(config)

print(hf.share(model, "QKK").words.en)

text = torch.tensor(list("".join(topics.values()).encode("ascii", "replace")[: 64 * 64])).view(64, 64)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for step in range(30):
    batch = text[step % 4 * 16 :][:16]
    loss = model(batch, labels=batch, use_cache=False).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step in (0, 29):
        print(f"step {step + 1}: {loss.item():.2f} nats per character")

prompt = text[:1, :8]
written = model.generate(prompt, max_new_tokens=12, do_sample=False)
print(repr(bytes(written[0].tolist()).decode()))

with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    back = hf.load(LlamaForCausalLM, folder)
print("comes back as it was:", torch.equal(back.eval().generate(prompt, max_new_tokens=12, do_sample=False), written))
