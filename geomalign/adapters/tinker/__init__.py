"""Tinker: the loss function of `forward_backward_custom`, and one that `create_custom_loss` can trace.

```py
from geomalign.adapters import tinker as geometry

data = geometry.prepare("opo alpha=0.4", data, reward=rewards, group=prompts)  # once per rollout, whole groups
loss = geometry.loss("opo alpha=0.4")
for step in minibatches(data):
    client.forward_backward_custom(step, loss)
    client.optim_step(types.AdamParams(learning_rate=4e-5))
```

The client computes a custom loss from the log-probabilities that the service returns, and sends −∂loss/∂log π back as
the weights of a cross-entropy. A datum holds one response: `loss_fn_inputs` has `target_tokens`, `logprobs` (of the
policy that sampled) and `mask`, as the cookbook's rollouts have them; `weights`, as its supervised data have them,
stand for a mask. Of pairs, the chosen and the rejected response alternate, as in the cookbook's DPO. Nothing of Tinker
is imported here: the data are copied with further fields, of which a loss that the client runs sends none.
"""

from geomalign.adapters.tinker.data import counted, prepare
from geomalign.adapters.tinker.losses import loss, traceable, weighted
from geomalign.adapters.tinker.text import configuration

__all__ = ["configuration", "counted", "loss", "prepare", "traceable", "weighted"]
