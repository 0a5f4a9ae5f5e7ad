"""What holds for all tests."""

import signal

from hypothesis import settings

# The programs under test must hear an interrupt. Whoever starts the tests in the background has them ignore it, and
# programs inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test is timed: that a machine is busy is no mistake.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items):
    """Files with slow tests first, so that no worker is left with one of them in the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
