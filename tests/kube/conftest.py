"""One API server for all tests of this folder."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from apiserver import ApiServer, assets, running


@pytest.fixture(scope="session")
def api() -> Iterator[ApiServer]:
    if not os.environ.get("KUBECONFIG") and assets() is None:
        pytest.skip("no kube-apiserver here: make envtest builds one (needs a Go toolchain)")
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    with running() as server:
        yield server
