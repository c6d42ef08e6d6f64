"""The one build step that pyproject.toml cannot say: the demo's messages are generated from protos/."""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc
from setuptools import setup
from setuptools.command.build_py import build_py

PACKAGE = "otelstream.demo.v1"
PROTO = "protos/otelstream/demo/v1/ticks.proto"


class BuildPy(build_py):
    """build_py, with the code generated beside the sources first: an editable install imports it from there."""

    def run(self) -> None:
        package = Path(*PACKAGE.split("."))
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(f'"""Generated from {PROTO}."""\n', encoding="utf-8")
        if protoc.main(["protoc", "-Iprotos", "--python_out=.", "--pyi_out=.", "--grpc_python_out=.", PROTO]):
            # An editable build goes on after any Exception, and would install a package without messages.
            raise SystemExit(f"protoc could not compile {PROTO}")
        if PACKAGE not in self.packages:  # on a clean tree it did not exist when setuptools looked for packages
            self.packages.append(PACKAGE)
        super().run()


# The generated code runs on this Python and on newer ones, not on older ones (pyproject.toml, build-system): so says
# the wheel's tag.
setup(
    cmdclass={"build_py": BuildPy},
    options={"bdist_wheel": {"python_tag": f"py{sys.version_info.major}{sys.version_info.minor}"}},
)
