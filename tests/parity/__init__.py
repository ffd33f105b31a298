"""The same objectives in other libraries, called through their own entry points: where they are equal, and where and
why not.

`compare_loss(my_loss, "grpo")` compares a loss of one's own with a recipe; `python -m tests.parity` runs the table
of cases against whatever reference implementations are installed.
"""

from geomalign.laws.comparison import Comparison as Comparison
from geomalign.laws.comparison import Verdict as Verdict
from geomalign.laws.comparison import compare as compare
from geomalign.laws.comparison import minimal as minimal
from geomalign.laws.conformance import LossReport as LossReport
from geomalign.laws.conformance import compare_loss as compare_loss
from tests.parity.case import Case as Case
from tests.parity.case import Result as Result
from tests.parity.case import run as run
from tests.parity.implementations import ReferenceImplementation as ReferenceImplementation

__all__ = [
    "Case",
    "Comparison",
    "LossReport",
    "ReferenceImplementation",
    "Result",
    "Verdict",
    "compare",
    "compare_loss",
    "minimal",
    "run",
]
