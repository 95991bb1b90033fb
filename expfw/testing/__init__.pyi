"""Public names of expfw.testing; `__init__.py` imports each on first use."""

from expfw.testing.backend_contract import BackendContract as BackendContract
from expfw.testing.bench import Bench as Bench
from expfw.testing.callback_contract import CallbackContract as CallbackContract
from expfw.testing.contract import PluginContract as PluginContract
from expfw.testing.contract import RunContract as RunContract
from expfw.testing.dataset_contract import DatasetContract as DatasetContract
from expfw.testing.model_contract import ModelContract as ModelContract
from expfw.testing.tracker_contract import TrackerContract as TrackerContract
