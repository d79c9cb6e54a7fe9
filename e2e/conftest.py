import tempfile

import pytest

from server import Server


@pytest.fixture(scope="module")
def server():
    """One fresh process for a file of tests."""
    with tempfile.TemporaryDirectory(prefix="pharos-e2e-") as data:
        process = Server(data).start()
        yield process
        process.stop()
