"""The house: rooms import downwards only, nothing goes round in circles, files can be read in a sitting."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Of each room, those below it that it may import; packages that are not named here import nothing of ours.
ZOO = ["base", "images", "networks", "engines", "store", "config", "training", "exchange"]
ANALYSIS = ["config", "measures", "features", "benchmark", "audit", "show", "zoo_analysis"]
LONGEST = 450  # lines
LONGER = {"sweep.py"}  # still to be divided

FILES = [file for name in ("zoo", "hyperrep", "analysis", "hyperzoo") for file in sorted((ROOT / name).rglob("*.py"))]
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in [*FILES, ROOT / "run.py", ROOT / "sweep.py"]
}


def imports(module):
    """The modules of ours that one imports, anywhere in it: also within functions and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            found |= {
                name if (name := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
    return {name for name in found if name in MODULES} - {module}


GRAPH = {module: imports(module) for module in MODULES}


def test_nothing_goes_round_in_circles():
    order = []

    def visit(module, way):
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in order:
            for other in sorted(GRAPH[module]):
                visit(other, [*way, module])
            order.append(module)

    for module in GRAPH:
        visit(module, [])
    assert len(order) == len(MODULES)


@pytest.mark.parametrize(("package", "rooms"), [("zoo", ZOO), ("analysis", ANALYSIS)])
def test_rooms_import_downwards(package, rooms):
    for module, others in GRAPH.items():
        if not module.startswith(f"{package}."):
            continue
        room = module.split(".")[1]
        for other in others:
            if other.startswith(f"{package}.") and other.split(".")[1] != room:
                assert rooms.index(other.split(".")[1]) < rooms.index(room), f"{module} imports {other}"


@pytest.mark.parametrize(
    ("package", "known"), [("zoo", ["zoo"]), ("hyperrep", ["hyperrep", "zoo"]), ("analysis", ["analysis", "zoo"])]
)
def test_packages_know_only_those_below(package, known):
    for module, others in GRAPH.items():
        if module.split(".")[0] == package:
            assert {other.split(".")[0] for other in others} <= set(known), module


def test_files_can_be_read_in_a_sitting():
    long = {name: n for name, file in MODULES.items() if (n := len(file.read_text().splitlines())) > LONGEST}
    assert set(long) == {name.removesuffix(".py") for name in LONGER}, long
