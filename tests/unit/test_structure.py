"""Imports run one way, and the core stays pure."""

from __future__ import annotations

import ast
from pathlib import Path

import otelstream

ROOT = Path(otelstream.__file__).parent
LAYERS = [
    {"record", "_version", "findings", "weakbag", "viewer_address", "_heap"},
    {"semconv", "history"},
    {"config", "observers", "message_events", "slope", "trend", "wording", "process_growth"},
    {"verdict", "report", "leak_log", "leftovers", "profile"},
    {"ticker", "spans", "profile_export"},
    {"stream_info", "intercept", "metrics", "memory"},
    {"diagnosis", "cpu"},
    {"debug"},
    {"patches", "takeover"},
    {"runtime"},
    {"instrumentor", "interceptors"},
    {"__init__", "testing"},
    {"stack", "stress", "pytest_plugin", "view", "top"},
    {"cli", "demo", "__main__", "_bootstrap"},
]
PURE = (
    "record",
    "observers",
    "ticker",
    "config",
    "findings",
    "history",
    "verdict",
    "wording",
    "slope",
    "trend",
    "process_growth",
    "leftovers",
)


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def modules() -> dict[Path, str]:
    files = (path for path in ROOT.rglob("*.py") if "demo/v1" not in path.as_posix())
    return {path: path.relative_to(ROOT).parts[0].removesuffix(".py") for path in files}


def test_imports_run_one_way() -> None:
    level = {name: index for index, layer in enumerate(LAYERS) for name in layer}
    wrong = []
    for path, module in modules().items():
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "otelstream" and len(parts) > 1 and parts[1] in level and level[parts[1]] > level[module]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_the_core_knows_neither_grpc_nor_opentelemetry() -> None:
    for name in PURE:
        foreign = {found for found in imports(ROOT / f"{name}.py") if found.split(".")[0] in ("grpc", "opentelemetry")}
        assert not foreign, name


def test_the_viewer_knows_the_names_and_the_words_and_nothing_of_the_instrumentation() -> None:
    known = {"view", "semconv", "record", "findings", "wording", "slope", "trend"}
    known |= {"viewer_address", "_version", "profile"}
    for path, module in modules().items():
        if module == "view":
            ours = {name.split(".")[1] for name in imports(path) if name.startswith("otelstream.")}
            assert ours <= known, path


def test_the_public_face_is_names_only() -> None:
    assert sorted(otelstream.__all__) == otelstream.__all__
    assert all(hasattr(otelstream, name) for name in otelstream.__all__)
    assert len((ROOT / "__init__.py").read_text(encoding="utf-8").splitlines()) < 45


def test_files_are_short() -> None:
    long = {path.name: count for path in modules() if (count := len(path.read_text("utf-8").splitlines())) > 340}
    assert long == {}
