"""The whole suite runs offline, quietly, and on its own throw-away ZenML and Hugging Face folders.

ZenML reads its environment at import, so this is set before any test module is imported.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

HOME = Path(tempfile.mkdtemp(prefix="musclelora-tests-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

os.environ.update(
    {
        "ZENML_CONFIG_PATH": str(HOME / "zenml"),
        "ZENML_REPOSITORY_PATH": str(HOME),  # a `.zen` folder of the developer must not choose the stack
        "ZENML_CUSTOM_SOURCE_ROOT": str(Path(__file__).parents[1]),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_ENABLE_REPO_INIT_WARNINGS": "false",
        "ZENML_LOGGING_VERBOSITY": "WARN",
        "GX_ANALYTICS_ENABLED": "false",
        "HF_HOME": str(HOME / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",  # models this small are much slower with more
    }
)
for name in ("ZENML_ACTIVE_STACK_ID", "ZENML_ACTIVE_PROJECT_ID", "ZENML_STORE_URL", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)

from hypothesis import settings  # noqa: E402

# In CI the same examples every time: a new one that fails is a finding for a developer, not for who pushes next.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

import pytest  # noqa: E402
import torch  # noqa: E402  (it reads the number of threads at import)

torch.set_num_threads(1)  # where something imported it before


@pytest.fixture(autouse=True)
def no_test_leaves_another_number_of_threads():
    """Sums are cut by it, so that every model trained later in this process would differ in its last bits."""
    yield
    left = torch.get_num_threads()
    torch.set_num_threads(1)
    assert left == 1


def pytest_collection_modifyitems(items):
    """Slow tests first: started last, one of several minutes would keep a worker busy while the others idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
