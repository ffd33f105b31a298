"""The public names of the laws. A new one is one line here and one in `suite.__all__`."""

from .suite import LAWS as LAWS
from .suite import Comparison as Comparison
from .suite import Law as Law
from .suite import LawViolation as LawViolation
from .suite import LossReport as LossReport
from .suite import Verdict as Verdict
from .suite import check_chart as check_chart
from .suite import check_divergence as check_divergence
from .suite import check_geometry as check_geometry
from .suite import check_measure as check_measure
from .suite import check_objective as check_objective
from .suite import check_optimization as check_optimization
from .suite import check_sampling as check_sampling
from .suite import check_unit as check_unit
from .suite import compare as compare
from .suite import compare_loss as compare_loss
from .suite import gradient_is_the_derivative_of_the_loss as gradient_is_the_derivative_of_the_loss
from .suite import masked_tokens_are_absent as masked_tokens_are_absent
from .suite import parts_add_up_to_the_whole as parts_add_up_to_the_whole
from .suite import sample_batch as sample_batch
from .suite import sample_mask as sample_mask
from .suite import sample_pairs as sample_pairs
