"""docs/strategies.md is true: its plugin and its resource load, trade on paper, and keep their state."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from strategy_rig import Rig

from tickmesh.domain.enums import Mode
from tickmesh.services.strategy_plugin import load_plugin
from tickmesh.strategy.resource import parse

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "strategies.md").read_text(encoding="utf-8")


def test_the_strategy_of_the_page_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    (tmp_path / "dip.py").write_text(code)
    (resource,) = parse(text, str(tmp_path / "dip.yaml"))
    spec = resource.spec
    plugin = load_plugin(resource).make()
    rig = Rig(plugin, symbols=spec.symbols, parameters=spec.parameters, limits=spec.limits, mode=spec.mode)
    assert spec.mode is Mode.SIMULATION
    for _ in range(50):
        rig.tick()
    assert [o.slot for o in rig.desk.paper.orders.values()] == ["dip"]
    rig.tick(617_700, 617_701)
    assert rig.desk.paper.qty_lots("BTCUSDT") > 0
    for _ in range(400):
        rig.tick(618_100, 618_101)
    assert rig.desk.paper.qty_lots("BTCUSDT") == 0
    assert rig.desk.guard.errors == 0
    plugin.restore(plugin.get_state())
