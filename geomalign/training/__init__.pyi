"""The public names of training."""

from .callbacks import Callback as Callback
from .comparison import compare as compare
from .config.comparison import Choice as Choice
from .config.comparison import CompareConfig as CompareConfig
from .config.mapping import from_dict as from_dict
from .config.mapping import load_config as load_config
from .config.mapping import override as override
from .config.mapping import to_dict as to_dict
from .config.presets import PRESETS as PRESETS
from .config.presets import preset as preset
from .config.presets import train_preset as train_preset
from .config.settings import LoRAConfig as LoRAConfig
from .config.settings import ModelConfig as ModelConfig
from .config.settings import OfflineConfig as OfflineConfig
from .config.settings import RLConfig as RLConfig
from .config.settings import TaskConfig as TaskConfig
from .config.settings import TrainConfig as TrainConfig
from .config.settings import WarmStartConfig as WarmStartConfig
from .events import Event as Event
from .events import Interrupted as Interrupted
from .events import Progress as Progress
from .events import silent as silent
from .tracking import Tracker as Tracker
from .trainer import train as train
