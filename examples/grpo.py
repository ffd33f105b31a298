"""A GRPO-style loop in one file: a small Llama, made here, learns to repeat the word it is given.

`python examples/grpo.py [opo]`; DDP: `torchrun --nproc_per_node 2 examples/grpo.py`; FSDP on GPUs, by accelerate's
configuration: `accelerate launch --config_file examples/fsdp.yaml examples/grpo.py`.
"""

import contextlib
import sys

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import LlamaConfig, LlamaForCausalLM

import geomalign as ga
from geomalign import distributed

WORDS, LENGTH, PROMPTS, SAMPLES, EPOCHS, MICRO_BATCHES = 10, 6, 8, 8, 2, 2

accelerator = Accelerator(cpu=not torch.cuda.is_available())
set_seed(0)
config = LlamaConfig(vocab_size=WORDS, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
model = LlamaForCausalLM(config)
model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-2))
objective = ga.recipes.get(sys.argv[1] if len(sys.argv) > 1 else "grpo")
set_seed(1, device_specific=True)


def log_probs(tokens: torch.Tensor) -> torch.Tensor:
    logits = model(tokens).logits[:, :-1].float()
    return logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]


for iteration in range(40):
    with torch.no_grad():
        tokens = torch.randint(WORDS, (PROMPTS, 1), device=accelerator.device).repeat_interleave(SAMPLES, 0)
        for _ in range(LENGTH):
            following = torch.multinomial(model(tokens).logits[:, -1].float().softmax(-1), 1)
            tokens = torch.cat([tokens, following], 1)
        old = log_probs(tokens)
    reward = (tokens[:, 1:] == tokens[:, :1]).float().mean(1)
    group = torch.arange(PROMPTS, device=tokens.device).repeat_interleave(SAMPLES)
    rollout = ga.Batch(old, old, reward=reward, group=group)
    drive = distributed.drive(objective, rollout, local_groups=True)  # statistics of all ranks' groups
    counts = distributed.counts(rollout)  # so that micro-batches and ranks add up to the whole
    for _ in range(EPOCHS):
        for k, rows in enumerate(torch.randperm(len(tokens), device=tokens.device).chunk(MICRO_BATCHES)):
            last = k == MICRO_BATCHES - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(model):
                outcome = objective(ga.Batch(log_probs(tokens[rows]), old[rows]), drive[rows], counts)
                accelerator.backward(outcome.loss * distributed.world_size())  # gradients are averaged over ranks
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    seen = {name: value.item() for name, value in ga.metrics(outcome).items()}
    reward = accelerator.reduce(reward.mean(), "mean").item()
    if iteration % 10 == 9:
        accelerator.print(f"{iteration + 1}: reward {reward:.3f}, KL {seen['kl']:.4f}, inactive {seen['inactive']:.2f}")
accelerator.end_training()
