"""What an implementation is: another library that computes the same losses, called through its own entry points."""

from __future__ import annotations
import __future__ as future

import ast
import importlib.metadata
import importlib.util
import sys
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from geomalign.batch import Batch
from geomalign.laws.comparison import Loss

__all__ = ["Estimator", "ReferenceImplementation", "two_word_logit", "unavailable"]

Estimator: TypeAlias = Callable[[Batch], Tensor]

TOLERANCE = {torch.float64: 1e-6, torch.float32: 3e-5}


class ReferenceImplementation(ABC):
    """Another library. Its own code computes the loss; a subclass only hands it the tensors of a batch.

    A new implementation needs `name`, `package` and `loss`; its environment is a line of tests/parity/environments.sh.
    """

    name: str
    """How the implementation is called in cases and reports."""

    package: str
    """The distribution that `version` asks for."""

    dtype: torch.dtype = torch.float64
    """What the implementation computes in; float32 where it casts."""

    @abstractmethod
    def loss(self, method: str, **options: Any) -> Loss:
        """The implementation's loss as a function of a batch, differentiable in its log-probabilities.

        Args:
            method: the entry point, as the cases name it.
            options: hyper-parameters by the implementation's own names; what is not given keeps its default.

        Raises:
            KeyError: the implementation has no such entry point (in this release).
        """

    def estimator(self, method: str, **options: Any) -> Estimator:
        """The implementation's advantage estimator as a function of a batch, `(row,)` or `(row, token)`."""
        raise KeyError(f"{self.name} has no advantage estimator {method!r}")

    @property
    def version(self) -> str:
        return importlib.metadata.version(self.package)

    @property
    def tolerance(self) -> float:
        """Relative: 1e-6, since libraries add 1e-8 to the counts they divide by; in float32 what one softmax costs."""
        return TOLERANCE[self.dtype]


def unavailable(implementation: ReferenceImplementation) -> str | None:
    """Why the implementation cannot be asked here, or None if it can."""
    try:
        importlib.metadata.version(implementation.package)
    except importlib.metadata.PackageNotFoundError:
        return f"{implementation.package} is not installed"
    return None


def without_init(*packages: str) -> None:
    """Puts empty modules in the place of packages whose `__init__` imports what no loss needs, outermost first."""
    for package in packages:
        if package not in sys.modules:
            root, *below = package.split(".")
            if root not in sys.modules:
                spec = importlib.util.find_spec(root)
                assert spec is not None and spec.submodule_search_locations
                paths = list(spec.submodule_search_locations)
            else:
                paths = list(sys.modules[root].__path__)
            shell = types.ModuleType(package)
            shell.__path__ = ["/".join([path, *below]) for path in paths]
            sys.modules[package] = shell


def excerpt(package: str, file: str, names: Collection[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Functions, classes, methods and constants of a file of a package as they stand, without importing the file.

    For files whose imports ask for an engine or a GPU that no loss needs. What the excerpt reads of its module, and is
    not in it, has to be in `given`; a name that a release adds ends in a NameError.

    Args:
        package: the top package.
        file: path below it.
        names: what to take; a method by its own name.
        given: what the rest of the module would have provided.
    """
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    path = Path(next(iter(spec.submodule_search_locations)), file)
    module = ast.parse(path.read_text(encoding="utf-8"))
    inside = [node for one in module.body if isinstance(one, ast.ClassDef) for node in one.body]
    kept = [node for node in [*module.body, *inside] if set(_named(node)) & set(names)]
    made = dict(given)
    exec(compile(ast.Module(kept, []), str(path), "exec", future.annotations.compiler_flag), made)
    return {name: made[name] for name in names}


def _named(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    return [x.id for x in node.targets if isinstance(x, ast.Name)] if isinstance(node, ast.Assign) else []


def two_word_logit(log_prob: Tensor) -> Tensor:
    """x such that log softmax([x, 0])[0] is `log_prob`: the logits of a model with a vocabulary of two words.

    For implementations whose entry point takes logits or hidden states. A log-probability of zero has no finite logit.
    """
    return log_prob - torch.log(-torch.expm1(log_prob))


def padded(x: Tensor, mask: Tensor) -> Tensor:
    """`x` with zeros where `mask` is false, as collators pad."""
    return torch.where(mask, x, 0)
