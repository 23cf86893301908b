"""docs/runbook.md as written: its blocks run in order against a real API server, operator, NATS, risk, gateway."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from apiserver import ApiServer, free_port
from chart import ROOT, program
from pace import Pace
from service_account import as_service_account
from world import World, eventually

from tickmesh.console.control import NEEDS_CONFIRMATION

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^## (.+?)$|^```sh ?(\w*)\n(.*?)^```$", RUNBOOK, re.M | re.S)
_COMMAND_S = 60


@dataclass
class Desk:
    """Where the runbook is followed."""

    world: World
    env: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def shell(self, command: str, code: int = 0) -> str:
        """Run what the runbook says, without a terminal; fail with what it said."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=_COMMAND_S,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def watch(self, command: str) -> str:
        """Run until something was printed."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=ROOT, env=self.env, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            return process.stdout.readline() + process.stdout.readline()
        finally:
            process.kill()
            process.wait()

    def service(self, name: str) -> None:
        """Start one service as its pod would, but for addresses."""
        port = free_port()
        self.env[f"TICKMESH_{name.upper()}__ADMIN_PORT"] = str(port)
        with (self.world.home / f"{name}.log").open("wb") as log:
            process = subprocess.Popen([sys.executable, str(ROOT / "cmd" / name)], env=self.env, stdout=log, stderr=log)
        self.processes.append(process)

        def started() -> bool:
            assert process.poll() is None, (self.world.home / f"{name}.log").read_text()[-3000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/startupz", timeout=1) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        eventually(started, 40, f"{name} has started")


@pytest.fixture
def desk(empty_api: ApiServer, tmp_path: Path) -> Iterator[Desk]:
    helm = program()
    if helm is None:
        pytest.skip("no helm here: make helm builds one (needs a Go toolchain)")
    api = empty_api
    world = World(api, tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "helm").symlink_to(helm)
    kubectl = shutil.which("kubectl")
    assert kubectl is not None
    (programs / "kubectl").symlink_to(kubectl)
    (programs / "tickmesh").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tickmesh.runtime.cli "$@"\n')
    (programs / "tickmesh").chmod(0o755)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{world.namespace}"}}
    api.apply(yaml.safe_dump(node))
    env = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT / "pkg"),
        "KUBECONFIG": str(api.kubeconfig),
        "NS": world.namespace,
        "NODE": f"node-{world.namespace}",
        "TICKMESH_NATS__URL": f"nats://127.0.0.1:{world.nats_port}",
        "TICKMESH_LOCAL__DATA_DIR": str(tmp_path / "data"),
        "TICKMESH_GATEWAY__PORT": str(free_port()),
        "TICKMESH_RISK__CRITICAL_SERVICES": "[]",
    }
    made = Desk(world, env)
    yield made
    for process in made.processes:
        process.terminate()
    for process in made.processes:
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    api.kubectl("delete", "node", env["NODE"], "--ignore-not-found")
    world.close()


@pytest.mark.timeout(400)
def test_every_block_that_can_be_run_here_does_what_it_says(desk: Desk) -> None:
    world, chapter, ran = desk.world, "", dict.fromkeys(("run", "watch", "exec", "cluster"), 0)
    desk.service("risk")
    desk.service("gateway")
    for title, kind, text in BLOCKS:
        if title:
            chapter = title
            continue
        for line in text.splitlines():
            command = re.sub(r"\s{2,}# .*$", "", line).strip()
            if not command or not kind or command.startswith("#"):
                continue
            ran[kind] += 1
            match kind:
                case "run":
                    desk.shell(command)
                case "watch":
                    assert "NAME" in desk.watch(command)
                case "exec":
                    _, inside = command.split(" -- ", 1)
                    if inside.endswith("tickmesh resume"):
                        asked = desk.shell(inside, NEEDS_CONFIRMATION)
                        inside = asked.splitlines()[-1].strip()  # the second step, as the first one prints it
                        assert "--confirm" in inside
                    desk.shell(inside)
            _check(world, chapter, command)
        if chapter == "Install" and kind == "run" and not world.operators:
            world.operator(**as_service_account(world, "tickmesh-operator"))
    assert ran["run"] >= 20 and ran["watch"] == 2 and ran["exec"] >= 7, ran


def _check(world: World, chapter: str, command: str) -> None:
    """What an SRE would look for after the command."""
    began = time.monotonic()
    match chapter:
        case "Apply a strategy" if "momentum.yaml" in command:
            with Pace() as pace:
                eventually(lambda: world.get("deployment", "strategy-momentum"), what="the Deployment")
                pace.assert_within(5, time.monotonic() - began)
        case "Change, pause, go on" if '"paused":true' in command:
            eventually(lambda: (world.bucket("strategies", "spec.momentum") or {})["spec"].get("paused"), 5, "paused")
        case "Change, pause, go on" if "scale" in command:
            eventually(lambda: (world.get("deployment", "strategy-momentum") or {})["spec"]["replicas"] == 2, 10, "two")
        case "Trip, release and reset a breaker" if '"Open"' in command:
            eventually(lambda: world.status("circuitbreaker", "venue-rest").get("state") == "Open", 5, "tripped")
        case "Trip, release and reset a breaker" if "null" in command:
            eventually(lambda: world.status("circuitbreaker", "venue-rest").get("state") == "Closed", 5, "released")
        case "Remove" if "annotate" in command:
            eventually(lambda: world.get("strategy", "momentum") is None, 20, "gone")
        case "Remove" if "uninstall" in command:
            assert world.get("deployment", "tickmesh-feed") is None
            assert world.kubectl("get", "circuitbreaker", "venue-rest").returncode == 0, "resources stay"


def test_every_block_says_how_it_is_run() -> None:
    kinds = [kind for title, kind, _ in BLOCKS if not title]
    assert set(kinds) == {"", "run", "watch", "exec", "cluster"}
    assert kinds.count("") == 1, "only the block that sets NS may be without a word"
    assert kinds.count("cluster") <= 7, os.linesep.join(kinds)
