"""The same geometries train a policy-gradient agent on CartPole: clip, KL penalty, χ² spring, solved χ² radius.

One file, read from top to bottom: environments, a small network, generalised advantages, and an objective that is a
choice of parts. Only the optimization geometry (and for the last the sampling geometry) differs between the agents.

    pip install 'geomalign[control]'
    python examples/gymnasium_control.py                                    # one seed each, short: about a minute
    python examples/gymnasium_control.py --steps 60000 --seeds 5 --figure curves.png
"""

from __future__ import annotations

import argparse
import statistics

import gymnasium
import torch
from torch import Tensor, nn

import geomalign as ga


def objective(optimization: ga.OptimizationGeometry, sampling: ga.SamplingGeometry | None = None) -> ga.Objective:
    """−A·t + φ(t − 1) of single actions: PPO's surrogate with the potential of your choice."""
    return ga.Objective(
        unit=ga.Sequence(),
        chart=ga.Ratio(),
        sampling=sampling or ga.Advantage(),
        optimization=optimization,
        offset=ga.Surrogate(),
    )


AGENTS = {
    "PPO clip": objective(ga.Clip(0.2, 0.2)),
    "KL penalty": objective(ga.KL(1.0)),
    "χ²": objective(ga.ChiSquare(1.0)),
    "χ², radius 0.3 solved": objective(ga.ChiSquare(1.0), ga.TrustRegion(ga.Advantage(), chi2=0.3)),
}


def network(inputs: int, outputs: int) -> nn.Sequential:
    """Two hidden layers with the customary orthogonal start."""
    layers = [nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)]
    for layer, gain in zip(layers[::2], (2**0.5, 2**0.5, 0.01)):
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def generalised_advantage(
    reward: Tensor, value: Tensor, died: Tensor, ended: Tensor, discount: float, decay: float
) -> Tensor:
    """A_t = Σ_k (discount·decay)^k δ_{t+k}, up to the episode's end; what was only cut off still has its value."""
    advantage, running = torch.zeros_like(reward), torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        delta = reward[t] + discount * value[t + 1] * ~died[t] - value[t]
        running = delta + discount * decay * running * ~ended[t]
        advantage[t] = running
    return advantage


def train(
    loss: ga.Objective,
    seed: int,
    *,
    steps: int,
    environments: int = 8,
    horizon: int = 128,
    epochs: int = 6,
    parts: int = 4,
) -> tuple[list[int], list[float], list[float]]:
    """Environment steps so far, mean return of the last twenty episodes, and KL that each rollout moved the policy."""
    torch.manual_seed(seed)
    world = gymnasium.make_vec("CartPole-v1", num_envs=environments, vectorization_mode="sync")
    actor, critic = network(4, 2), network(4, 1)
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=1.5e-3)
    state = torch.as_tensor(world.reset(seed=seed)[0])
    fresh = torch.zeros(environments, dtype=torch.bool)  # the step after an episode's end only resets
    lengths, finished = torch.zeros(environments), [20.0]
    at, returns, moved = [], [], []
    rollouts = steps // (environments * horizon)
    for rollout in range(rollouts):
        optimizer.param_groups[0]["lr"] = 1.5e-3 * (1 - rollout / rollouts)
        states, actions, rewards, deaths, ends, valid = [], [], [], [], [], []
        for _ in range(horizon):
            with torch.no_grad():
                action = torch.distributions.Categorical(logits=actor(state)).sample()
            after, reward, terminated, truncated, _ = world.step(action.numpy())
            ended = torch.as_tensor(terminated | truncated)
            states.append(state)
            actions.append(action)
            rewards.append(torch.as_tensor(reward, dtype=torch.float32))
            deaths.append(torch.as_tensor(terminated))
            ends.append(ended)
            valid.append(~fresh)
            lengths = torch.where(fresh, 0, lengths + 1)
            finished += lengths[ended].tolist()
            fresh, state = ended, torch.as_tensor(after)
        with torch.no_grad():
            value = critic(torch.stack([*states, state]))[..., 0]
            advantage = generalised_advantage(
                torch.stack(rewards), value, torch.stack(deaths), torch.stack(ends), 0.99, 0.95
            )
        # From here on a transition is a row of a batch, and the rest is the library's.
        keep = torch.stack(valid).flatten()
        states, actions = torch.stack(states).flatten(0, 1)[keep], torch.stack(actions).flatten()[keep]
        target = (advantage + value[:-1]).flatten()[keep]
        advantage = advantage.flatten()[keep]
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        with torch.no_grad():
            before = torch.log_softmax(actor(states), -1)
        old = before.gather(1, actions[:, None])[:, 0]
        batch = ga.Batch(old, old, advantage=advantage)
        drive = loss.drive(batch)
        for _ in range(epochs):
            for rows in torch.randperm(len(states)).chunk(parts):
                policy = torch.log_softmax(actor(states[rows]), -1).gather(1, actions[rows, None])[:, 0]
                part = ga.Batch(policy, old[rows], advantage=advantage[rows])
                error = critic(states[rows])[:, 0] - target[rows]
                optimizer.zero_grad()
                (loss(part, drive=drive[rows]).loss + 0.5 * error.square().mean()).backward()
                nn.utils.clip_grad_norm_([*actor.parameters(), *critic.parameters()], 0.5)
                optimizer.step()
        with torch.no_grad():
            now = torch.log_softmax(actor(states), -1)
        at.append((rollout + 1) * environments * horizon)
        returns.append(statistics.fmean(finished[-20:]))
        moved.append(float(ga.KullbackLeibler().value(now, before).mean()))
    world.close()
    return at, returns, moved


def draw(runs: dict[str, list[tuple[list[int], list[float], list[float]]]], path: str) -> None:
    """Mean over seeds, with its standard error."""
    from geomalign import plotting

    with plotting.canvas(1, 2, panel=(5.2, 3.4)) as (figure, axes):
        for (name, seeds), look in zip(runs.items(), plotting.looks(list(runs)).values()):
            for axis, column in zip(axes[0], (1, 2)):
                curves = torch.tensor([seed[column] for seed in seeds])
                x = [k / 1000 for k in seeds[0][0]]
                axis.plot(x, curves.mean(0), color=look["color"], linestyle=look["linestyle"], label=name)
                error = curves.std(0) / len(seeds) ** 0.5 if len(seeds) > 1 else torch.zeros(len(x))
                low, high = curves.mean(0) - error, curves.mean(0) + error
                axis.fill_between(x, low.clamp(min=1e-6), high, color=look["color"], alpha=0.15, linewidth=0)
        axes[0, 0].set(title="return of the last 20 episodes", xlabel="thousand environment steps", ylim=(0, 510))
        axes[0, 1].set(title="KL that one rollout moved the policy", xlabel="thousand environment steps", yscale="log")
        axes[0, 0].legend(frameon=False, fontsize=8, loc="lower right")
        print("wrote", plotting.save(figure, path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12_288, help="environment steps of every run")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--figure", help="where to draw the learning curves")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = {}
    for name, loss in AGENTS.items():
        runs[name] = [train(loss, seed, steps=options.steps) for seed in range(options.seeds)]
        last = [seed[1][-1] for seed in runs[name]]
        moved = statistics.fmean(statistics.fmean(seed[2]) for seed in runs[name])
        print(
            f"{name:24s} return {statistics.fmean(last):6.1f}  (least {min(last):.0f})   KL per rollout {moved:.4f}",
            flush=True,
        )
    if options.figure:
        draw(runs, options.figure)


if __name__ == "__main__":
    main()
