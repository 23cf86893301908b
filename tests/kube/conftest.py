"""One API server for all tests of this folder."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from apiserver import ApiServer, assets, running
from world import World

from tickmesh.kube.generate import rendered


@pytest.fixture(scope="session")
def api() -> Iterator[ApiServer]:
    if not os.environ.get("KUBECONFIG") and assets() is None:
        pytest.skip("no kube-apiserver here: make envtest builds one (needs a Go toolchain)")
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    with running() as server:
        yield server


@pytest.fixture
def cluster(api: ApiServer) -> ApiServer:
    """The API server with the newest definitions; tests before may have removed them."""
    crds = [text for path, text in rendered().items() if path.startswith("k8s/crds/")]
    api.apply("\n---\n".join(crds), "--server-side", "--force-conflicts")
    api.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    return api


@pytest.fixture
def world(cluster: ApiServer, tmp_path: Path) -> Iterator[World]:
    """A namespace of its own, with its own nats-server and operators."""
    made = World(cluster, tmp_path)
    yield made
    made.close()
