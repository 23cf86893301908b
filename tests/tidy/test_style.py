"""What the project asks of its source, as a test: sizes, names, words, errors, bounds. It parses; it runs nothing.

Layers, the `cmd` programs and the opening docstrings are in ``test_layers``, links of pages in ``test_front_page``.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tickmesh.settings.load import keys

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pkg" / "tickmesh"
NATIVE = ROOT / "pkg" / "native" / "src"
PROGRAMS = ("pkg", "cmd", "operators", "tools")

USUAL_LINES, MOST_LINES, FUNCTION_LINES = 400, 600, 70

LONG = {
    "pkg/tickmesh/services/execution.py": "wires one account's desk and takes what arrives for it",
    "pkg/tickmesh/services/execution_path.py": "an order's way to the venue, in the order in which it is walked",
    "pkg/tickmesh/services/strategy.py": "one host of strategies: leases, intake, desks, reports",
    "pkg/tickmesh/bus/nats.py": "the whole Bus port over one connection",
    "pkg/tickmesh/strategy/desk.py": "one strategy's state, from event to drafts of orders",
    "pkg/tickmesh/venues/capture.py": "one file format, written and read",
    "pkg/tickmesh/venues/binance_usdm/rest.py": "the venue's signed calls, one short method each",
    "pkg/native/src/replica.rs": "twin of hotpath/pure/replica.py and synchroniser.py",
    "pkg/native/src/pretrade.rs": "twin of hotpath/pure/pretrade.py",
    "pkg/native/src/scan.rs": "one scanner; its fast and its careful way are read side by side",
    "tests/integration/test_strategy_service.py": "claims of one service against real servers",
    "tests/integration/test_gateway.py": "claims of one service against real servers",
    "tests/integration/test_bus_nats.py": "claims of the Bus port against a real server",
    "tests/simulation/test_mutations.py": "a table: each mutant and the invariant that finds it",
}
"""Longer than usual, and why it is one job nevertheless. Only ever gets shorter."""

VAGUE = {"base", "common", "helper", "helpers", "manager", "misc", "shared", "stuff", "util", "utils"}

OTHER_TREES = {
    "ProcessKilledError": "ends a simulated process; nothing that process catches may stop it",
    "PluginBlockedError": "interrupts a plugin; nothing the plugin catches may stop it",
    "InvariantError": "the simulation's verdict over tickmesh, not one of its errors",
    "VenueError": "an answer of the simulated exchange, in the venue's own codes",
    "WireError": "an answer of the simulated exchange, in the venue's own codes",
}
"""Errors outside of the tree under TickmeshError, and why."""

SENTENCE_ONLY = {"TickmeshError", "ConfigError"}
"""Roots: whoever catches one shows its sentence and asks nothing else of it."""


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path))


@cache
def sources(*folders: str) -> tuple[Path, ...]:
    """Python files below ``folders``, without what a build left there."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return tuple(sorted(path for path in found if "target" not in path.relative_to(ROOT).parts))


def place(path: Path, line: int = 0) -> str:
    name = path.relative_to(ROOT).as_posix()
    return f"{name}:{line}" if line else name


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree_of(path)))


def nodes(kind: type[ast.AST] | tuple[type[ast.AST], ...], *folders: str) -> Iterator[tuple[Path, ast.AST]]:
    for path in sources(*folders):
        for node in nodes_of(path):
            if isinstance(node, kind):
                yield path, node


def test_modules_are_short_and_the_list_of_long_ones_only_shrinks() -> None:
    files = (*sources(*PROGRAMS, "tests"), *NATIVE.rglob("*.rs"))
    lines = {place(path): len(text_of(path).splitlines()) for path in files}
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}
    long = {name for name, n in lines.items() if n > USUAL_LINES}
    assert long - LONG.keys() == set(), f"more than {USUAL_LINES} lines: which part of it is another job?"
    assert LONG.keys() - long == set(), "no longer long, or gone: take it off the list"


def test_functions_are_short() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {place(p, n.lineno): n.end_lineno - n.lineno + 1 for p, n in nodes(kinds, *PROGRAMS, "tests")}
    assert {where: length for where, length in found.items() if length >= FUNCTION_LINES} == {}


def test_names_say_what_a_thing_is_for() -> None:
    """A room for everything is nobody's room."""
    for path in (*sources(*PROGRAMS, "tests"), *NATIVE.rglob("*.rs")):
        assert not VAGUE & {part.strip("_") for part in path.relative_to(ROOT).with_suffix("").parts}, place(path)
    for path, node in nodes(ast.ClassDef, *PROGRAMS):
        words = {word.lower() for word in re.findall(r"[A-Z][a-z0-9]*", node.name)}
        assert not (VAGUE - {"base", "shared"}) & words, place(path, node.lineno)


def is_wide(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or ast.unparse(kind) in {"Exception", "BaseException"} for kind in kinds)


def unexplained(text: str) -> list[int]:
    """Lines that catch everything, do not raise, and do not say why: beside, above or in the first lines below."""
    lines = text.splitlines()
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler) and is_wide(node) and not isinstance(node.body[-1], ast.Raise):
            around = lines[node.lineno - 2 : node.body[0].lineno]
            if not any("# " in line and "# type:" not in line for line in around):
                found.append(node.lineno)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "suppress":
            wide = {"Exception", "BaseException"} & {ast.unparse(each) for each in node.args}
            if wide and not any("# " in line for line in lines[node.lineno - 2 : node.lineno]):
                found.append(node.lineno)
    return found


def test_whoever_swallows_every_error_says_why() -> None:
    assert {place(path): lines for path in sources(*PROGRAMS) if (lines := unexplained(text_of(path)))} == {}


def test_this_test_sees_every_way_of_swallowing() -> None:
    for silent in ("except Exception:\n    f()", "except:\n    pass", "except (OSError, BaseException) as e:\n    f()"):
        assert unexplained(f"try:\n    f()\n{silent}"), silent
    assert unexplained("with contextlib.suppress(Exception):\n    f()")
    assert not unexplained("try:\n    f()\nexcept Exception:  # it is only a picture\n    f()")
    assert not unexplained("try:\n    f()\nexcept BaseException:\n    close()\n    raise")
    assert not unexplained("try:\n    f()\nexcept OSError:\n    pass")


def test_public_classes_and_functions_say_what_they_are() -> None:
    """What is two lines long says it itself; what is alone in a module is what the module's opening describes."""
    found = []
    for path in sources("pkg/tickmesh"):
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        public = [node for node in tree_of(path).body if isinstance(node, kinds) and node.name[0] != "_"]
        for node in public if len(public) > 1 else ():
            long = isinstance(node, ast.ClassDef) or node.end_lineno - node.lineno > 1
            if long and not ast.get_docstring(node):
                found.append(f"{place(path, node.lineno)} {node.name}")
    assert found == []


def errors() -> dict[str, tuple[str, ast.ClassDef, set[str]]]:
    """Every exception class of the package: where it is, its definition, the names of its bases."""
    classes = {
        node.name: (place(path, node.lineno), node, {ast.unparse(base) for base in node.bases})
        for path, node in nodes(ast.ClassDef, "pkg/tickmesh")
        if isinstance(node, ast.ClassDef)
    }
    known = {
        name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    found: dict[str, tuple[str, ast.ClassDef, set[str]]] = {}
    while more := {n: c for n, c in classes.items() if n not in found and c[2] & (known | found.keys())}:
        found |= more
    return found


def test_errors_belong_to_one_tree_and_end_in_error() -> None:
    tree, found = {"TickmeshError"}, errors()
    while more := {name for name, (_, _, bases) in found.items() if name not in tree and bases & tree}:
        tree |= more
    assert found.keys() - tree == OTHER_TREES.keys()
    assert [name for name in found if not name.endswith("Error")] == []


def fields_of(definition: ast.ClassDef) -> set[str]:
    """What ``self.x = ...`` sets in an error."""
    stored = (n for n in ast.walk(definition) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store))
    return {node.attr for node in stored if ast.unparse(node.value) == "self"}


def test_errors_carry_their_facts_as_fields() -> None:
    found = errors()

    def carried(name: str) -> set[str]:
        _, definition, bases = found[name]
        return fields_of(definition).union(*(carried(base) for base in bases if base in found))

    ours = found.keys() - SENTENCE_ONLY - OTHER_TREES.keys()
    assert {f"{found[name][0]} {name}" for name in ours if not carried(name)} == set()


def test_work_that_is_left_to_do_has_an_issue() -> None:
    words = re.compile(r"(?:#|//).*\b(TODO|FIXME|XXX|HACK)\b(?!.*#\d)")
    for path in (*sources(*PROGRAMS, "tests"), *NATIVE.rglob("*.rs")):
        if path != Path(__file__).resolve():
            assert not words.search(text_of(path)), place(path)


def test_every_native_class_has_a_test_beside_its_twin() -> None:
    names = re.findall(r"add_class::<\w+::(\w+)>", text_of(NATIVE / "lib.rs"))
    parity = "".join(text_of(path) for path in sources("tests/parity"))
    assert len(names) > 10
    assert [name for name in names if not re.search(rf"\b{name}\b", parity)] == []


def test_whatever_waits_in_memory_is_bounded() -> None:
    """A queue without a length of its own (or made as a copy) says beside it what bounds it."""
    found = []
    for path, node in nodes(ast.Call, "pkg/tickmesh"):
        name = ast.unparse(node.func).rpartition(".")[2]
        if name not in {"deque", "Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"}:
            continue
        bounded = node.args or any(word.arg in {"maxlen", "maxsize"} for word in node.keywords)
        above = text_of(path).splitlines()[node.lineno - 2 : node.lineno + 1]
        if not bounded and not any("ounded" in line for line in above):
            found.append(place(path, node.lineno))
    assert found == []


def test_every_key_of_the_settings_is_read_by_somebody() -> None:
    """A key that nobody reads is an empty promise to who sets it."""
    checked_only = {"venue.protocol"}  # it has one value, and is there to refuse another
    names = {path.partition(".")[2]: path for path, _ in keys()}
    readers = [path for path in sources(*PROGRAMS) if "settings" not in path.parts or path.stem in ("load", "root")]
    read = {node.attr for path in readers for node in nodes_of(path) if isinstance(node, ast.Attribute)}
    assert len(names) > 50
    assert {path for name, path in names.items() if name not in read} == checked_only


def claims() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, node in nodes((ast.FunctionDef, ast.AsyncFunctionDef), "tests"):
        if path.name.startswith("test_") and node.name.startswith("test_"):
            yield path, node


def judges(node: ast.AST, known: set[str]) -> bool:
    """Whether something in ``node`` can fail on what it finds: an assertion, or a call of what has one."""
    for each in ast.walk(node):
        if isinstance(each, ast.Assert | ast.Raise):
            return True
        if isinstance(each, ast.Call) and ast.unparse(each.func).rpartition(".")[2] in known:
            return True
    return False


def test_every_test_can_fail() -> None:
    known = {"raises", "fail", "warns"}
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    written = [n for _, n in nodes(kinds, "tests") if not n.name.startswith("test_")]
    for _ in range(3):
        known |= {node.name for node in written if judges(node, known)}
    assert [place(path, node.lineno) for path, node in claims() if not judges(node, known)] == []
    constant = [place(p, n.lineno) for p, n in nodes(ast.Assert, "tests") if isinstance(n.test, ast.Constant)]
    assert constant == []


def test_this_test_sees_a_test_that_cannot_fail() -> None:
    assert not judges(ast.parse("def test_x():\n    run()\n    time.sleep(1)"), {"until"})
    assert judges(ast.parse("async def test_x():\n    await rig.until(x)"), {"until"})
    assert judges(ast.parse("def test_x():\n    assert run()"), set())


def test_nothing_is_tested_by_looking_at_a_mock() -> None:
    imports = nodes((ast.Import, ast.ImportFrom), "tests")
    assert [place(path, node.lineno) for path, node in imports if re.search(r"\bmock\b", ast.unparse(node))] == []
