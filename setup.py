"""The build steps that pyproject.toml cannot say: the demo's messages are generated from protos/, what
`otelstream stack` starts is carried along from compose/, and the heap profiler is compiled where that can be done."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

from grpc_tools import protoc
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

PACKAGE = "otelstream.demo.v1"
PROTO = "protos/otelstream/demo/v1/ticks.proto"
COMPOSE = Path("compose")
COMPOSE_FILES = ("*.yml", "*.yaml", "*.json", "*.md")


class BuildPy(build_py):
    """build_py, with the code generated first, beside the sources: an editable install needs it there."""

    def run(self) -> None:
        package = Path(*PACKAGE.split("."))
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(f'"""Generated from {PROTO}."""\n', encoding="utf-8")
        if protoc.main(["protoc", "-Iprotos", "--python_out=.", "--pyi_out=.", "--grpc_python_out=.", PROTO]):
            # An editable build goes on after any Exception, and would install a package without messages.
            raise SystemExit(f"protoc could not compile {PROTO}")
        # On a clean tree the package did not exist yet when setuptools looked for packages.
        if PACKAGE not in self.packages:
            self.packages.append(PACKAGE)
        super().run()
        if not self.editable_mode:  # in a checkout, compose/ is used where it is
            self._carry_compose()

    def _carry_compose(self) -> None:
        for pattern in COMPOSE_FILES:
            for source in COMPOSE.rglob(pattern):
                target = Path(self.build_lib, "otelstream", source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


def heap_profiler() -> list[Extension]:
    """Optional: what has no compiler, no ELF or Mach-O, or no GIL, gets the package without it."""
    if sys.platform == "win32" or sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return []
    return [
        Extension(
            "otelstream._heap.native",
            sorted(map(str, Path("otelstream/_heap").glob("*.c"))),
            depends=["otelstream/_heap/heap.h"],
            extra_compile_args=["-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden"],
            libraries=["m"],
            optional=True,
        )
    ]


# A wheel with the extension is for the Python it was built with. One without is tagged with what holds for the
# generated code (pyproject.toml, build-system): it runs on that Python and on newer ones.
setup(
    cmdclass={"build_py": BuildPy},
    ext_modules=heap_profiler(),
    options={"bdist_wheel": {"python_tag": f"py{sys.version_info.major}{sys.version_info.minor}"}},
)
