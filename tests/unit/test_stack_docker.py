"""What is asked of Docker, and what is made of its answers: a script on PATH answers in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelstream.stack import docker as stack_docker
from otelstream.stack.docker import Service, StackError, container_on
from tests.fake_docker import NO_PLUGIN, FakeDocker, row, says, until, well


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    return FakeDocker(tmp_path, monkeypatch)


# Which program


def test_the_plugin_is_asked_first(docker: FakeDocker) -> None:
    docker.install("docker", "docker-compose")
    file = str(docker.compose / "docker-compose.yml")
    assert docker.find().command("down", "--volumes") == ["docker", "compose", "--file", file, "down", "--volumes"]


def test_the_program_is_asked_where_there_is_no_plugin(docker: FakeDocker) -> None:
    docker.install("docker", "docker-compose")
    docker.answers("version", NO_PLUGIN)
    assert docker.find().command("down")[:2] == ["docker-compose", "--file"]
    assert docker.asked == ["docker compose version --short", "docker-compose version --short"]


def test_the_program_alone_is_enough(docker: FakeDocker) -> None:
    docker.install("docker-compose")
    assert docker.find().command("down")[0] == "docker-compose"


@pytest.mark.parametrize("version", ["2.20", "v2.29.1-desktop.3", "5.6.1", "dev"])
def test_a_compose_that_knows_all_of_the_file_is_used(docker: FakeDocker, version: str) -> None:
    docker.install("docker")
    docker.answers("version", says(version))
    docker.find()


@pytest.mark.parametrize("version", ["1.29.2", "2.19.1"])
def test_one_that_is_too_old_is_told(docker: FakeDocker, version: str) -> None:
    docker.install("docker")
    docker.answers("version", says(version))
    with pytest.raises(StackError, match=rf"`docker compose` is {version} here\. Install Docker with Compose 2\.20"):
        docker.find()


def test_a_plugin_that_is_too_old_does_not_hide_a_newer_program(docker: FakeDocker) -> None:
    """A distribution's plugin stays where it is when somebody installs the program of today."""
    docker.install("docker", "docker-compose")
    docker.answers("version", "case $0 in *docker) echo 2.19.1;; *) echo v5.6.1;; esac")
    assert docker.find().command("down")[0] == "docker-compose"


@pytest.mark.parametrize(
    ("installed", "missing"),
    [((), "there is no `docker` here"), (("docker",), "docker has no `compose` here")],
)
def test_what_is_missing_is_named(docker: FakeDocker, installed: tuple[str, ...], missing: str) -> None:
    docker.install(*installed)
    docker.answers("version", NO_PLUGIN)
    with pytest.raises(StackError) as error:
        docker.find()
    assert str(error.value) == (
        f"The stack runs in Docker, and {missing}. Install Docker with Compose 2.20 or newer, "
        "or look at streams and memory without it: otelstream view"
    )


# What it answers


def test_services_are_read_from_every_release_of_compose(docker: FakeDocker) -> None:
    docker.install("docker")
    compose = docker.find()
    services = [well("prometheus"), Service("grafana", "exited", "", 137)]
    rows = [row(service) for service in services]
    for answer in (f"[{','.join(rows)}]", "\n".join(rows)):
        docker.answers("ps", says(answer))
        assert compose.services() == services, answer
    for answer in ("", "[]"):
        docker.answers("ps", says(answer))
        assert compose.services() == [], answer
    assert docker.asked[-1] == docker.line("ps --all --format json")


def test_what_a_release_leaves_out_is_no_fault(docker: FakeDocker) -> None:
    docker.install("docker")
    docker.answers("ps", says('{"Service": "jaeger", "State": "created"}'))
    assert docker.find().services() == [Service("jaeger", "created", "", 0)]


@pytest.mark.parametrize(
    ("service", "is_well", "shown"),
    [
        (Service("jaeger", "running", "healthy", 0), True, "healthy"),
        (Service("jaeger", "running", "", 0), False, "running"),
        (Service("jaeger", "running", "starting", 0), False, "starting"),
        (Service("jaeger", "running", "unhealthy", 0), False, "unhealthy"),
        (Service("jaeger", "exited", "", 137), False, "exited (137)"),
        (Service("jaeger", "restarting", "", 1), False, "restarting"),
    ],
)
def test_a_service_is_well_when_it_says_so(service: Service, is_well: bool, shown: str) -> None:
    assert (service.is_well, str(service)) == (is_well, shown)


def test_an_engine_that_hangs_is_not_waited_for(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.install("docker")
    compose = docker.find()
    docker.answers("ps", "exec sleep 60")
    monkeypatch.setattr(stack_docker, "_ANSWER_S", 0.01)
    with pytest.raises(StackError, match="Docker does not answer within 0 s"):
        compose.services()


@pytest.mark.parametrize(
    ("names", "started"),
    [
        (["prometheus"], ["prometheus"]),
        (["jaeger"], ["jaeger", "prometheus"]),
        (["grafana"], ["grafana", "prometheus", "jaeger"]),
        (["grafana", "jaeger"], ["grafana", "jaeger", "prometheus"]),
    ],
)
def test_what_a_service_depends_on_is_started_with_it(docker: FakeDocker, names: list[str], started: list[str]) -> None:
    """Each once, though two of them depend on it."""
    docker.install("docker")
    assert docker.find().with_needs(names) == started


def test_needs_are_followed_as_far_as_they_go(docker: FakeDocker) -> None:
    docker.install("docker")
    docker.answers("config", says('{"services": {"a": {"depends_on": {"b": {}}}, "b": {"depends_on": {"c": {}}}}}'))
    assert docker.find().with_needs(["a"]) == ["a", "b", "c"]


def test_all_services_need_no_names(docker: FakeDocker) -> None:
    docker.install("docker")
    compose = docker.find()
    before = docker.asked
    assert compose.with_needs([]) == []
    assert docker.asked == before


def test_who_may_not_talk_to_docker_is_told_how_to(docker: FakeDocker) -> None:
    """Its engine runs: to start it would not help."""
    docker.install("docker")
    docker.answers("ps", "echo 'Permission denied while trying to connect to the docker API' >&2; exit 1")
    with pytest.raises(StackError) as error:
        docker.find().services()
    assert str(error.value) == (
        "Docker does not let you in: Permission denied while trying to connect to the docker API\n"
        "Join the group `docker` (then log in again), or do this as root."
    )


def test_a_file_that_compose_does_not_take_is_not_the_engines_fault(docker: FakeDocker) -> None:
    docker.install("docker")
    docker.answers("config", "echo 'services.jaeger: additional property' >&2; exit 15")
    with pytest.raises(StackError) as error:
        docker.find().config()
    assert str(error.value) == "Docker Compose does not take the stack's file: services.jaeger: additional property"


def test_a_refusal_without_a_word_is_told(docker: FakeDocker) -> None:
    docker.install("docker")
    docker.answers("ps", "exit 1")
    with pytest.raises(StackError, match=r"^Docker does not answer: \(nothing\)\nStart its engine "):
        docker.find().services()


# Whose port it is


def test_the_container_that_publishes_a_port_is_named(docker: FakeDocker) -> None:
    docker.install("docker")
    docker.has_given_away(4317)
    assert (container_on(4317), container_on(4318)) == ("collector", None)
    assert docker.asked == [f"docker ps --filter publish={port} --format {{{{.Names}}}}" for port in (4317, 4318)]


@pytest.mark.parametrize(("answer", "limit_s"), [("echo collector; exit 1", 30), ("exec sleep 60", 0.01)])
def test_an_engine_that_does_not_say_it_is_nobody_to_ask(
    docker: FakeDocker, monkeypatch: pytest.MonkeyPatch, answer: str, limit_s: float
) -> None:
    """What is in the way is told all the same, then from what this machine knows."""
    docker.install("docker")
    docker.answers("publish=4317", answer)
    monkeypatch.setattr(stack_docker, "_ANSWER_S", limit_s)
    assert container_on(4317) is None


def test_without_docker_there_is_nobody_to_ask(docker: FakeDocker) -> None:
    docker.install("docker-compose")
    docker.has_given_away(4317)
    assert container_on(4317) is None
    assert docker.asked == []


# Starting


def test_progress_is_told_what_docker_writes_and_what_is_there(docker: FakeDocker, tmp_path: Path) -> None:
    docker.install("docker")
    starting = Service("jaeger", "running", "starting", 0)
    docker.on_up(starting, text=f"echo ' jaeger Pulling' >&2; {until('told')}")
    told = []

    def progress(said: str, services: list[Service]) -> None:
        told.append((said, services))
        if told[-1] == ("jaeger Pulling", [starting]):
            (tmp_path / "told").touch()  # `up` ends

    docker.find().start([], 7, progress)
    assert ("jaeger Pulling", [starting]) in told
    assert docker.line("--progress plain up --detach --wait --wait-timeout 7") in docker.asked


def test_what_docker_wrote_last_is_kept_when_it_is_still_unread_at_its_end(docker: FakeDocker, tmp_path: Path) -> None:
    docker.install("docker")
    (tmp_path / "much").write_text("\n" * 30_000 + "no such image\n")  # takes more than one reading, and fits the pipe
    docker.on_up(text="(while kill -0 $$ 2>&-; do :; done; cat much >&2) & exit 18")
    with pytest.raises(StackError) as error:
        docker.find().start([], 7, lambda *_: None)
    assert str(error.value).split()[-3:] == ["no", "such", "image"]


def test_an_answer_that_is_missed_meanwhile_leaves_what_was_known(docker: FakeDocker, tmp_path: Path) -> None:
    """Containers come and go, and `ps` fails for it now and then; whether it went well is for `up` to say."""
    docker.install("docker")
    jaeger = well("jaeger")
    (tmp_path / "missed").write_text("echo >asked-in-vain; echo 'No such container: 1f2e' >&2; exit 1")
    docker.services(jaeger)
    docker.answers("up", f"{until('told')}; mv missed answers/ps; {until('asked-in-vain')}")
    told = []

    def progress(_: str, services: list[Service]) -> None:
        told.append(services)
        (tmp_path / "told").touch()

    docker.find().start([], 7, progress)
    assert (tmp_path / "asked-in-vain").exists()
    assert all(services == [jaeger] for services in told), told
