"""A DPO loop in one file: a small Llama, made here, learns to prefer repeating a word to wandering off.

`python examples/dpo.py [chi_po]`, or `torchrun --nproc_per_node 2 examples/dpo.py`.
"""

import sys

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import LlamaConfig, LlamaForCausalLM

import geomalign as ga
from geomalign import distributed

accelerator = Accelerator(cpu=not torch.cuda.is_available())
set_seed(0)
config = LlamaConfig(vocab_size=10, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
model = LlamaForCausalLM(config)
objective = ga.recipes.get(sys.argv[1] if len(sys.argv) > 1 else "dpo", beta=0.1)


def log_probs(model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    logits = model(tokens).logits[:, :-1].float()
    return logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]


prompt = torch.randint(10, (256, 1))
chosen, rejected = prompt.expand(-1, 6), torch.cat([prompt, torch.randint(10, (256, 5))], 1)
with torch.no_grad():  # the reference, scored once
    pairs = torch.utils.data.TensorDataset(chosen, rejected, log_probs(model, chosen), log_probs(model, rejected))
loader = torch.utils.data.DataLoader(pairs, batch_size=32, shuffle=True)
model, optimizer, loader = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-3), loader)
for epoch in range(3):
    for chosen, rejected, *reference in loader:
        batch = ga.PreferenceBatch(*log_probs(model, torch.cat([chosen, rejected])).chunk(2), *reference)
        outcome = objective(batch, counts=distributed.counts(batch))
        accelerator.backward(outcome.loss * distributed.world_size())
        optimizer.step(), optimizer.zero_grad()
    accelerator.print(f"{epoch + 1}: loss {outcome.loss.item():.3f}, accuracy {(outcome.u > 0).float().mean():.2f}")
