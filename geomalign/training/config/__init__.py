"""What a run needs to know, as frozen dataclasses that are TOML files too (neither torch nor transformers is imported
here).
"""

from geomalign.tasks.config import KINDS as KINDS
from geomalign.tasks.config import TaskConfig as TaskConfig
from geomalign.training.config.comparison import Choice as Choice
from geomalign.training.config.comparison import CompareConfig as CompareConfig
from geomalign.training.config.mapping import digest as digest
from geomalign.training.config.mapping import flat as flat
from geomalign.training.config.mapping import from_dict as from_dict
from geomalign.training.config.mapping import load_config as load_config
from geomalign.training.config.mapping import override as override
from geomalign.training.config.mapping import to_dict as to_dict
from geomalign.training.config.presets import PRESETS as PRESETS
from geomalign.training.config.presets import preset as preset
from geomalign.training.config.presets import train_preset as train_preset
from geomalign.training.config.settings import LoopConfig as LoopConfig
from geomalign.training.config.settings import LoRAConfig as LoRAConfig
from geomalign.training.config.settings import ModelConfig as ModelConfig
from geomalign.training.config.settings import OfflineConfig as OfflineConfig
from geomalign.training.config.settings import RLConfig as RLConfig
from geomalign.training.config.settings import TrainConfig as TrainConfig
from geomalign.training.config.settings import WarmStartConfig as WarmStartConfig
