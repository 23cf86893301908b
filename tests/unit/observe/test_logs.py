"""No log line shows a secret: not in its text, not in its arguments, not in a traceback, in neither form."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import logging, sys
from tickmesh.observe import logs
secret = "Zq7-0ddba11-secret-of-this-test"
logs.hide(secret)
logs.set_up("test", "DEBUG", sys.argv[1])
log = logging.getLogger("tickmesh.test")
log.info("the key is %s", secret)
log.warning("GET /fapi/v1/order?symbol=BTCUSDT&signature=5ec2e7f00d&timestamp=1")
log.error('{"listenKey": "pqia91ma19a5s61cv6a81va65sdf19v8"} X-MBX-APIKEY: vmPUZE6mv9SD5VNHk4Hl')
try:
    raise ValueError(f"cannot connect to postgresql://tickmesh:pa55word-of-it@127.0.0.1/tickmesh with {secret}")
except ValueError:
    log.exception("failed")
"""


@pytest.mark.parametrize("style", ["text", "json"])
def test_nothing_that_is_secret_comes_out(style: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, style],
        env={**os.environ, "PYTHONPATH": str(ROOT / "pkg")}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    for secret in ("0ddba11-secret", "5ec2e7f00d", "pqia91ma19a5", "vmPUZE6mv9SD", "pa55word-of-it"):
        assert secret not in done.stderr, done.stderr
    assert "Zq7-****" in done.stderr and "symbol=BTCUSDT" in done.stderr and "Traceback" in done.stderr
    if style == "json":
        assert [json.loads(line)["level"] for line in done.stderr.splitlines()] == ["info", "warning", "error", "error"]
