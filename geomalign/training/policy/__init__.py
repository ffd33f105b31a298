"""The policy: a causal language model of transformers with its tokenizer, its device and its precision."""

from geomalign.training.placement import Placement as Placement
from geomalign.training.policy.lora import adapted as adapted
from geomalign.training.policy.lora import named_base as named_base
from geomalign.training.policy.lora import require_peft as require_peft
from geomalign.training.policy.making import build as build
from geomalign.training.policy.making import character_tokenizer as character_tokenizer
from geomalign.training.policy.making import load as load
from geomalign.training.policy.making import replace_directory as replace_directory
from geomalign.training.policy.making import save as save
from geomalign.training.policy.making import write as write
from geomalign.training.policy.model import Policy as Policy
from geomalign.training.policy.model import PromptWarning as PromptWarning
