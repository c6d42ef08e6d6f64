"""What ``pip install otelstream`` brings is enough for ``otelstream stack``."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.stack.servers import COMPOSE

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_carries_every_file_that_the_containers_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    # Not from the checkout itself: a build there leaves its folders behind.
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    for name in filter(None, tracked):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    carried = {
        name.removeprefix("otelstream/compose/"): zipfile.ZipFile(wheel).read(name)
        for name in zipfile.ZipFile(wheel).namelist()
        if name.startswith("otelstream/compose/")
    }
    read = [path for path in COMPOSE.rglob("*") if path.suffix in (".yml", ".yaml", ".json", ".md")]
    assert carried == {path.relative_to(COMPOSE).as_posix(): path.read_bytes() for path in read}
    assert len(carried) >= 9
