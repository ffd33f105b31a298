"""Published objectives as choices of slots. Each recipe is a function of a few lines; none has loss code of its own."""

from geomalign.recipes.distillation import *
from geomalign.recipes.lookup import get as get
from geomalign.recipes.lookup import names as names
from geomalign.recipes.plugins import BrokenPluginWarning as BrokenPluginWarning
from geomalign.recipes.preferences.dpo import *
from geomalign.recipes.preferences.likelihood import *
from geomalign.recipes.preferences.links import *
from geomalign.recipes.preferences.regression import *
from geomalign.recipes.preferences.transport import *
from geomalign.recipes.preferences.unpaired import *
from geomalign.recipes.publications import PUBLICATIONS as PUBLICATIONS
from geomalign.recipes.reference import Reference as Reference
from geomalign.recipes.rewards.discrimination import *
from geomalign.recipes.rewards.groups import *
from geomalign.recipes.rewards.importance import *
from geomalign.recipes.rewards.lengths import *
from geomalign.recipes.rewards.masked import *
from geomalign.recipes.rewards.opo import *
from geomalign.recipes.rewards.ppo import *
from geomalign.recipes.rewards.regression import *
from geomalign.recipes.rewards.reinforce import *
from geomalign.recipes.rewards.surrogates import *
from geomalign.recipes.rewards.weighted import *
