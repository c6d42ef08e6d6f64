"""Whose code it is, and where a name stands: files as they were imported, and lines."""

from __future__ import annotations

import dis
import linecache
import os
import re
import sys
import sysconfig
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any

import otelstream
from otelstream.memory.holding import peek

_OURS = os.path.join(os.path.dirname(os.path.abspath(otelstream.__file__)), "")
_DEMO = os.path.join(_OURS, "demo", "")
_STDLIB = tuple(
    {os.path.join(os.path.realpath(sysconfig.get_path(name)), "") for name in ("stdlib", "platstdlib")}
    | {os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")}
)


def is_ours(module: str) -> bool:
    """A module of otelstream; its demo stands for a user's program."""
    return module.split(".", maxsplit=1)[0] == "otelstream" and module.split(".")[1:2] != ["demo"]


def is_our_file(file: str) -> bool:
    """The same, by file."""
    return file.startswith(_OURS) and not file.startswith(_DEMO)


def is_our_code(code: CodeType) -> bool:
    """The same, by its file."""
    return is_our_file(code.co_filename)


def is_stdlib_code(code: CodeType) -> bool:
    """By file; frozen modules included."""
    return _in_stdlib(code.co_filename) or code.co_filename.startswith("<frozen ")


def is_foreign_file(file: str) -> bool:
    """Python's own, frozen modules included, or of an installed package: not what the user wrote."""
    return _in_stdlib(file) or file.startswith("<frozen ") or _is_installed(file)


def is_foreign_code(code: CodeType) -> bool:
    """The same, by its file."""
    return is_foreign_file(code.co_filename)


def is_foreign(module: str) -> bool:
    """The same, by module."""
    file = file_of(module)
    if file is None:
        return module.split(".", maxsplit=1)[0] in sys.stdlib_module_names or not module
    return _in_stdlib(file) or _is_installed(file)


def file_of(module: str) -> str | None:
    """Source file of an imported module."""
    found: Any = sys.modules.get(module)
    if not peek.is_a(type(found), ModuleType):
        return None
    file = (peek.attributes(found) or {}).get("__file__")
    return file if type(file) is str else None


def shown(file: str) -> str:
    """Relative to the folder it was imported from, else the last part: the way to it is nobody's business."""
    if not os.path.isabs(file):
        return os.path.normpath(file)
    folders = [os.path.join(folder, "") for folder in [*sys.path, os.getcwd()] if type(folder) is str and folder]
    inside = [folder for folder in folders if file.startswith(folder) and folder != os.sep]
    return file[len(max(inside, key=len)) :] if inside else os.path.basename(file)


def at(file: str | None, line: int | None) -> str:
    """``" (server.py:41)"``, to be appended to a name; empty when the file is not known."""
    if not file:
        return ""
    return f" ({shown(file)}:{line})" if line else f" ({shown(file)})"


def function_at(code: CodeType) -> str:
    """Where a function begins."""
    return at(code.co_filename, code.co_firstlineno)


def callable_name(item: Any) -> str:
    """`` `Service.expire` (app.py:30) ``: the function behind a method, a partial or the function itself."""
    for _ in range(8):  # partials of partials
        inner = peek.slot(item, "func") or peek.slot(item, "__func__")
        if inner is None:
            break
        item = inner
    if type(item) is FunctionType:
        return f"`{item.__qualname__}`{function_at(item.__code__)}"
    return f"`{peek.type_name(type(item))}`"


def global_at(file: Any, name: str) -> str:
    """Where a module gives ``name`` its value."""
    if type(file) is not str:
        return ""
    assignment = rf"{re.escape(name)}\s*(:[^=]+)?=(?!=)"
    line = _line(file, assignment)
    if line is None and _line(file, rf"\s+global\b.*\b{re.escape(name)}\b"):
        line = _line(file, rf"\s+{assignment}")
    return at(file, line)


def attribute_at(kind: type, name: str) -> tuple[type, str]:
    """The class that gives its instances the attribute, and where: the assignment, the field, or the class."""
    order = peek.mro(kind)
    for owner in order:
        for function in peek.functions(owner):
            code = function.__code__
            if name in code.co_names and not code.co_filename.startswith("<"):  # what dataclasses generates
                line = _assignment(code, name)
                if line is not None:
                    return owner, at(code.co_filename, line)
    for owner in order:
        place = class_attribute_at(owner, name, annotation=True)
        if place:
            return owner, place
    file, line, _ = _class_source(kind)
    return kind, at(file, line)


def class_attribute_at(kind: type, name: str, annotation: bool = False) -> str:
    """Where the body of a class gives ``name`` a value, or with ``annotation`` a type; empty when it does not."""
    file, first, source = _class_source(kind)
    pattern = re.compile(rf"\s+{re.escape(name)}\s*(:|=(?!=))" if annotation else rf"\s+{re.escape(name)}\s*(:.*)?=")
    return next((at(file, first + index) for index, text in enumerate(source) if index and pattern.match(text)), "")


def _assignment(code: CodeType, name: str) -> int | None:
    """The line on which a method assigns ``self.name``, whatever it calls ``self``."""
    if not code.co_argcount:
        return None
    loaded: object = None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_ATTR" and instruction.argval == name and loaded == code.co_varnames[0]:
            lines = (line for start, end, line in code.co_lines() if start <= instruction.offset < end)
            return next(lines, None)
        is_load = instruction.opname.startswith(("LOAD_FAST", "STORE_FAST_LOAD_FAST", "LOAD_DEREF"))
        loaded = instruction.argval if is_load else None
        if type(loaded) is tuple:  # two in one instruction from Python 3.13 on
            loaded = loaded[-1]
    return None


def _class_source(kind: type) -> tuple[str | None, int, list[str]]:
    """File, first line, and the lines from the ``class`` statement to the end of its body."""
    codes = [function.__code__ for function in peek.functions(kind)]
    named = peek.module_of(kind)
    files = [file_of(named), *(code.co_filename for code in codes)]
    file = next((file for file in files if file and not file.startswith("<")), None)
    if file is None:
        return None, 0, []
    first = _line(file, rf"\s*class\s+{re.escape(peek.qualname(kind).split('.')[-1])}\b")
    if first is None:
        return file, 0, []
    source = linecache.getlines(file)[first - 1 :]
    margin = len(source[0]) - len(source[0].lstrip())
    inside = [not text.strip() or len(text) - len(text.lstrip()) > margin for text in source[1:]]
    return file, first, source[: inside.index(False) + 1 if False in inside else None]


def _line(file: str, pattern: str) -> int | None:
    matches = re.compile(pattern).match
    return next((number for number, text in enumerate(linecache.getlines(file), 1) if matches(text)), None)


def _in_stdlib(file: str) -> bool:
    return file.startswith(_STDLIB) and not _is_installed(file) and not file.startswith(_DEMO)


def _is_installed(file: str) -> bool:
    """The demo is a user's program wherever it is."""
    return not file.startswith(_DEMO) and not {"site-packages", "dist-packages"}.isdisjoint(PurePath(file).parts)
