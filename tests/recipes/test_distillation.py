"""The generalised Jensen–Shannon divergence: the sampled estimate, and its expectation over a finite vocabulary."""

import pytest
import torch
from literal import BATCH, agree, log_probs, rows, token_mean

import geomalign as ga


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_generalized_jsd(beta: float) -> None:
    def literal() -> torch.Tensor:
        values = {}
        for i in rows():
            t = torch.exp(log_probs(i) - log_probs(i, "reference"))
            m = beta + (1 - beta) * t
            values[i] = (1 - beta) * t * torch.log(t / m) - beta * torch.log(m)
        return token_mean(values)

    agree(ga.recipes.generalized_jsd(beta), literal, BATCH)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_its_expectation_under_the_teacher_is_the_divergence(beta: float) -> None:
    """Every token of a vocabulary as a row, weighted by the teacher: exactly β KL(T‖M) + (1−β) KL(S‖M), with its
    gradient.
    """
    logits = torch.randn(7, requires_grad=True)
    student, teacher = torch.log_softmax(logits, 0), torch.log_softmax(torch.randn(7), 0)
    objective = ga.recipes.generalized_jsd(beta)
    per_token = [
        objective(ga.Batch(s.reshape(1, 1), None, reference=q.reshape(1, 1))).loss
        for s, q in zip(student, teacher, strict=True)
    ]
    expectation = (teacher.exp() * torch.stack(per_token)).sum()
    mixture = torch.log(beta * teacher.exp() + (1 - beta) * student.exp())
    exact = beta * (teacher.exp() * (teacher - mixture)).sum()
    exact = exact + (1 - beta) * (student.exp() * (student - mixture)).sum()
    torch.testing.assert_close(expectation, exact)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (expectation, exact)))
    torch.testing.assert_close(ga.divergences.SkewJensenShannon(beta).value(student, teacher), exact)


def test_its_ends_are_the_two_kullback_leibler_divergences() -> None:
    p, q = torch.log_softmax(torch.randn(5), 0), torch.log_softmax(torch.randn(5), 0)
    torch.testing.assert_close(
        ga.divergences.SkewJensenShannon(1e-6).value(p, q) / 1e-6,
        ga.ReverseKullbackLeibler().value(p, q),
        rtol=1e-4,
        atol=0,
    )
    torch.testing.assert_close(
        ga.divergences.SkewJensenShannon(1 - 1e-6).value(p, q) / 1e-6,
        ga.KullbackLeibler().value(p, q),
        rtol=1e-4,
        atol=0,
    )
