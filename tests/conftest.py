"""Every test runs offline, on the CPU, on one thread: the same numbers on a laptop and on a busy machine. Those of
`make test-gpu` see the GPU."""

import os

import pytest

os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_VERBOSITY="error",
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
)
if os.environ.get("MAPLE_TEST_DEVICE", "cpu") == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


LONG = ("test_reproduce.py", "test_container.py", "test_slurm.py")


def pytest_collection_modifyitems(items):
    """The long files first, so that the workers of `make test` end together."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with a Llama- and a Mistral-shaped model and tokenised rows for training."""
    import tiny

    folder = tmp_path_factory.mktemp("world")
    tiny.save_model(folder / "llama")
    tiny.save_model(folder / "mistral", "mistral")
    tiny.save_rows(folder / "train.arrow")
    return folder
