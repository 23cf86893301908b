"""One API server for the tests of this folder, and an empty one for those that install the definitions."""

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
    yield from _started()


@pytest.fixture
def empty_api() -> Iterator[ApiServer]:
    """An API server of its own that has never heard of us; what a test installs goes with it."""
    if os.environ.get("KUBECONFIG"):
        pytest.skip("this installs and removes definitions; not in the cluster of KUBECONFIG")
    yield from _started()


def _started() -> Iterator[ApiServer]:
    if not os.environ.get("KUBECONFIG") and assets() is None:
        pytest.skip("no kube-apiserver here: make envtest builds one (needs a Go toolchain)")
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    with running() as server:
        yield server


@pytest.fixture
def cluster(api: ApiServer) -> ApiServer:
    """The API server with our definitions."""
    return _with_definitions(api)


@pytest.fixture
def world(cluster: ApiServer, tmp_path: Path) -> Iterator[World]:
    """A namespace of its own, with its own nats-server and operators."""
    yield from _world(cluster, tmp_path)


@pytest.fixture
def lonely_world(empty_api: ApiServer, tmp_path: Path) -> Iterator[World]:
    """The same on an API server of its own, for tests that take definitions away from everybody."""
    yield from _world(_with_definitions(empty_api), tmp_path)


def _with_definitions(api: ApiServer) -> ApiServer:
    crds = [text for path, text in rendered().items() if path.startswith("k8s/crds/")]
    api.apply("\n---\n".join(crds), "--server-side", "--force-conflicts")
    api.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    return api


def _world(api: ApiServer, home: Path) -> Iterator[World]:
    made = World(api, home)
    yield made
    made.close()
