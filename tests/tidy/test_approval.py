"""Only risk/pretrade.py makes an ApprovedOrder: what reached a venue was checked, whoever wrote the code between."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "pkg" / "tickmesh"
MAKER = PACKAGE / "risk" / "pretrade.py"
TYPE = "ApprovedOrder"


def makers(source: str) -> list[int]:
    """Lines that make an ApprovedOrder: by call, alias, copy with changes, or decoding."""
    tree = ast.parse(source)
    names = {TYPE}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname for alias in node.names if alias.name == TYPE and alias.asname}
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id in names:
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if called in names:
            found.append(node.lineno)
        used = {n.id for a in [*node.args, *(k.value for k in node.keywords)] for n in ast.walk(a)
                if isinstance(n, ast.Name)}  # fmt: skip
        if called in {"decode", "convert", "Decoder", "__new__"} and used & names:
            found.append(node.lineno)
    return found


def test_only_pretrade_makes_an_approved_order() -> None:
    found = {str(p.relative_to(PACKAGE)): lines for p in PACKAGE.rglob("*.py") if (lines := makers(p.read_text()))}
    assert set(found) == {str(MAKER.relative_to(PACKAGE))}, found


def test_this_test_sees_every_way_of_making_one() -> None:
    for forgery in (
        "ApprovedOrder(i, 'c', 0)", "approval.ApprovedOrder(i, 'c', 0)", "decode(ApprovedOrder, b'')",
        "from tickmesh.domain.approval import ApprovedOrder as A\nA(i, 'c', 0)", "A = ApprovedOrder\nA(i, 'c', 0)",
        "msgspec.convert(x, type=ApprovedOrder)", "msgspec.json.Decoder(ApprovedOrder)",
        "object.__new__(ApprovedOrder)",
    ):  # fmt: skip
        assert makers(forgery), forgery
    assert not makers("def f(order: ApprovedOrder) -> None:\n    isinstance(order, ApprovedOrder)")
