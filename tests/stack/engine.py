"""A Docker engine: the one that runs, if it has the images, else one started by hand, whose images are made here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from otelstream.testing import wait_until
from tests.stack.conftest import compose_program, require, skip
from tests.stack.servers import BIN, OLD_NAMES, is_old_jaeger

IMAGES = {"jaeger": "jaegertracing/jaeger:2.20.0", "prometheus": "prom/prometheus:v3.13.3"}
PROJECT = "otelstream-tests"
"""Not the name in the file: what a user of this machine has stored in a stack of theirs is not ours to remove."""
BUSYBOX = "/bin/busybox"


@dataclass
class Engine:
    """A Docker engine."""

    environment: Mapping[str, str]

    def docker(self, *arguments: str, stdin: bytes | None = None) -> str:
        done = subprocess.run(
            ["docker", *arguments], env=self.environment, input=stdin, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def has(self, image: str) -> bool:
        return bool(self.docker("image", "ls", "--quiet", image))

    def inspect(self, *names: str) -> list[dict[str, object]]:
        return list(json.loads(self.docker("inspect", *names)))


@contextmanager
def running(folder: Path) -> Iterator[Engine]:
    """The engine of this machine, with the images of the stack; one started here is stopped in the end."""
    require(shutil.which("docker") or "docker", "make stack-binaries")
    environment = {
        **os.environ,
        "PATH": f"{Path(compose_program()[0]).parent}{os.pathsep}{os.environ['PATH']}",
        "COMPOSE_PROJECT_NAME": PROJECT,
    }
    if subprocess.run(["docker", "info"], env=environment, capture_output=True, check=False).returncode == 0:
        engine = Engine(environment)
        missing = [image for image in IMAGES.values() if not engine.has(image)]
        if missing:  # ours would stay behind under their names
            skip(f"this Docker engine lacks {', '.join(missing)}: otelstream stack up brings them")
        yield engine
        return
    if os.geteuid() != 0:
        skip("no Docker engine answers, and only root can start one")
    for program in ("dockerd", "iptables"):
        require(shutil.which(program) or program, "make stack-binaries")
    bridge = Path("/sys/class/net/docker0").exists()
    firewall = subprocess.run(["iptables-save"], capture_output=True, check=True).stdout
    socket = f"unix://{folder / 'docker.sock'}"
    with (folder / "dockerd.log").open("w") as log:
        daemon = subprocess.Popen(
            [
                "dockerd",
                f"--host={socket}",
                f"--data-root={folder / 'data'}",
                f"--exec-root={folder / 'exec'}",
                f"--pidfile={folder / 'pid'}",
            ],
            stdout=log,
            stderr=log,
        )
    engine = Engine({**environment, "DOCKER_HOST": socket})
    try:
        info = ["docker", "info"]
        wait_until(
            lambda: subprocess.run(info, env=engine.environment, capture_output=True, check=False).returncode == 0,
            f"dockerd; its log: {folder / 'dockerd.log'}",
            60,
        )
        _make_images(engine)
        yield engine
    finally:
        daemon.terminate()
        daemon.wait(30)
        # What an engine leaves behind when it ends.
        subprocess.run(["iptables-restore"], input=firewall, check=True)
        if not bridge:
            subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)
        shutil.rmtree(folder / "data", ignore_errors=True)


def _make_images(engine: Engine) -> None:
    """Images of the same names: nothing but the binary, and wget for the health check."""
    require(BUSYBOX, "make stack-binaries")
    for name, image in IMAGES.items():
        engine.docker("build", "--quiet", "--tag", image, "-", stdin=_context(name))


def _context(name: str) -> bytes:
    """A build context as tar, for the classic builder."""
    dockerfile = ["FROM scratch", "COPY bin /bin"]
    files = {"bin/busybox": Path(BUSYBOX), f"bin/{name}": BIN / name}
    if name == "jaeger":
        start = ["/bin/jaeger"]
        if is_old_jaeger():
            rename = "".join(f"s/{new}/{old}/;" for new, old in OLD_NAMES.items())
            script = (
                f"sed '{rename}' /etc/jaeger/config.yaml > /tmp/config.yaml; exec /bin/jaeger --config=/tmp/config.yaml"
            )
            start = ["/bin/busybox", "sh", "-c", script]
        dockerfile += ["USER 10001"]
    else:
        start = ["/bin/prometheus"]
        dockerfile += ["COPY --chown=65534 empty /prometheus", "USER 65534", "VOLUME /prometheus"]
    dockerfile += [f"ENTRYPOINT {json.dumps(start)}"]
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, source in files.items():
            tar.add(source.resolve(), path)
        for link in ("wget", "sh", "sed"):
            item = tarfile.TarInfo(f"bin/{link}")
            item.type, item.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(item)
        item = tarfile.TarInfo("empty")
        item.type, item.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(item)
        text = "\n".join(dockerfile).encode()
        item = tarfile.TarInfo("Dockerfile")
        item.size = len(text)
        tar.addfile(item, BytesIO(text))
    return out.getvalue()
