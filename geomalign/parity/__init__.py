"""The same objectives in other libraries, called through their own entry points: where they are equal, and where and
why not.

`compare_loss(my_loss, "grpo")` compares a loss of one's own with a recipe; `python -m geomalign.parity` runs the table
of cases against whatever peers are installed.
"""

from geomalign.parity.case import Case as Case
from geomalign.parity.case import Result as Result
from geomalign.parity.case import run as run
from geomalign.parity.compare import Comparison as Comparison
from geomalign.parity.compare import Verdict as Verdict
from geomalign.parity.compare import compare as compare
from geomalign.parity.compare import minimal as minimal
from geomalign.parity.peers import Peer as Peer
from geomalign.parity.user import LossReport as LossReport
from geomalign.parity.user import compare_loss as compare_loss

__all__ = ["Case", "Comparison", "LossReport", "Peer", "Result", "Verdict", "compare", "compare_loss", "minimal", "run"]
