"""What holds for all tests."""

import os
import signal
import subprocess
import sys

import absl.logging
import pytest

# Tests run side by side, one a core: PyTorch's threads would wait for one another. Programs under test inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
from hypothesis import settings

# The programs under test must hear an interrupt. Whoever starts the tests in the background has them ignore it, and
# programs inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# absl, which mlcroissant brings, closes what was sys.stderr when it was imported as soon as Hydra sets up logging: here that
# is pytest's own file, and no later test could write.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

# No test is timed: that a machine is busy is no mistake.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def in_process(monkeypatch, capsys):
    """Run the main function of a program in this process."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))

    def run(main, *words):
        monkeypatch.setattr(sys, "argv", list(words))
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run


def pytest_collection_modifyitems(items):
    """Skip what needs CUDA where there is none. Files with slow tests first, so that no worker is left with one of them in
    the end."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="needs CUDA"))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
