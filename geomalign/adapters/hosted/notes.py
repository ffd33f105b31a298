"""What a host can do with an objective, and what an exported configuration says of it."""

from __future__ import annotations

from geomalign._util.types import Locality
from geomalign._util.words import short
from geomalign.measure import PooledMean
from geomalign.objective import BaseObjective
from geomalign.sampling import EffectiveImportance, OffPolicyBaseline, SecondMomentMask, TruncatedImportance

__all__ = ["cut_groups", "drives_in_words", "note", "of_engine", "of_tokens", "pooled"]


def pooled(objective: BaseObjective) -> bool:
    """Whether every term is a mean over all tokens of the batch.

    >>> from geomalign import recipes
    >>> pooled(recipes.get("dapo")), pooled(recipes.get("grpo"))
    (True, False)
    """
    return all(term.unit.per_token and isinstance(term.measure, PooledMean) for _, term in objective.terms)


def of_tokens(objective: BaseObjective) -> bool:
    """Whether a token's loss needs that token alone, so that a host may pack responses or hold parts of them.

    >>> from geomalign import recipes
    >>> of_tokens(recipes.get("ppo")), of_tokens(recipes.get("luspo"))
    (True, False)
    """
    return objective.per_token and objective.locality <= Locality.TOKEN


def cut_groups(objective: BaseObjective, host: str) -> str | None:
    """Why a host that hands over parts of groups cannot compute the objective; None where it can.

    >>> from geomalign import recipes
    >>> print(cut_groups(recipes.get("real"), "TRL"))  # doctest: +ELLIPSIS
    GroupContrast(temperature=0.5) couples the responses to one prompt, and TRL cuts groups into micro-batches: ...
    """
    for _, term in objective.terms:
        if term.coupling is not None:
            return (
                f"{short(term.coupling)} couples the responses to one prompt, and {host} cuts groups into "
                "micro-batches: use geomalign's trainer, whose parts are whole groups"
            )
        if term.measure.needs_lengths:
            return (
                f"{short(term.measure)} weighs a response by the lengths of others, which {host} does not pass on with "
                "its micro-batches: use geomalign's trainer, or let the host scale its advantages likewise"
            )
    if objective.needs_observations:
        return (
            f"a term predicts the tokens that the environment wrote, and {host} passes no mask of these to a loss: "
            "evaluate the objective in a loop of your own, on a Batch with `observation_mask`"
        )
    return None


def of_engine(objective: BaseObjective) -> bool:
    """Whether a term weighs its drive by the log-probabilities of the engine that sampled, `Batch.behavior`.

    >>> from geomalign import recipes
    >>> of_engine(recipes.get("decoupled_ppo")), of_engine(recipes.get("rec"))
    (True, False)
    """

    def reads(sampling: object) -> bool:
        always = (TruncatedImportance, EffectiveImportance, OffPolicyBaseline, SecondMomentMask)
        here = isinstance(sampling, always) or getattr(sampling, "denominator", None) == "behavior"
        return here or (hasattr(sampling, "of") and reads(sampling.of))

    return any(reads(term.sampling) for _, term in objective.terms)


def note(objective: BaseObjective, host: str, *, reference: bool = True) -> str:
    """The comment with which a configuration begins: whose drive an objective has where the host makes the advantages.

    Args:
        objective: to be exported.
        host: its name.
        reference: whether the host passes the reference policy's log-probabilities to a loss.

    Raises:
        ValueError: the objective compares pairs, or a term measures from a reference that the host does not pass.

    >>> from geomalign import recipes
    >>> note(recipes.get("opo alpha=0.5"), "OpenRLHF")
    '# OpenRLHF makes the advantages: they are the drive, in the place of Escort(alpha=0.5).'
    """
    if objective.paired:
        raise ValueError(f"{host} samples single responses, but this objective compares pairs.")
    if cut := cut_groups(objective, host):
        raise ValueError(f"{cut}.")
    if not reference and objective.needs_reference:
        raise ValueError(
            f"a term is measured from the reference, whose log-probabilities {host} does not pass to a loss: use its "
            "own KL term and beta=0."
        )
    return f"# {host} makes the advantages: they are the drive, in the place of {drives_in_words(objective)}."


def drives_in_words(objective: BaseObjective) -> str:
    """The sampling geometries of the terms that samples drive.

    >>> from geomalign import recipes
    >>> drives_in_words(recipes.get("opo alpha=0.5"))
    'Escort(alpha=0.5)'
    """
    return " and ".join(dict.fromkeys(short(term.sampling) for term in objective.driven_terms))
