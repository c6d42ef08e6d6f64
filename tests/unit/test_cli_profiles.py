"""``otelstream heap`` and ``otelstream cpu``, on files and on real debug addresses."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from otelstream.cli import main
from otelstream.debug.server import Address, DebugServer, DebugSources
from otelstream.observers import Guard
from otelstream.profile import choose, collapsed, flame, pprof, speedscope, top
from otelstream.profile.model import SIDE, Frame, Profile, Sample, minus, only
from otelstream.profile.unavailable import ProfileUnavailable
from tests.asked import free_port
from tests.command import one_sentence
from tests.heap_profiles import AFTER, BEFORE, CPU_PROFILE, call, heap

VARIABLE = "OTEL_PYTHON_OTELSTREAM_DEBUG_TOKEN"
Files = Callable[..., str]


@pytest.fixture
def saved(tmp_path: Path) -> Files:
    """Writes a profile, and answers where."""

    def save(profile: Profile, name: str = "heap.pb.gz") -> str:
        file = tmp_path / name
        file.write_bytes(pprof.encode(profile))
        return str(file)

    return save


@contextmanager
def debug_address(token: str | None = None, **sources: Any) -> Iterator[int]:
    server = DebugServer(
        Address("127.0.0.1", 0),
        DebugSources(list, lambda: None, bytes, **sources),
        token=token,
        guard=Guard(),  # type: ignore[arg-type,return-value]
    )
    assert server.start()
    try:
        yield server.port
    finally:
        server.stop()


def run(*arguments: object, **env: str) -> Result:
    result = CliRunner().invoke(main, list(map(str, arguments)), env={VARIABLE: None, **env})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def shown(*arguments: object, **env: str) -> str:
    result = run(*arguments, **env)
    assert result.exit_code == 0, result.output
    return result.stdout


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str]:
    """What goes to stdout and, apart from it, to stderr."""
    with pytest.raises(SystemExit, match="0"):
        main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return out, err


# What is shown


def test_a_table_unless_something_else_is_asked_for(saved: Files) -> None:
    assert shown("heap", saved(BEFORE)) == top.render(BEFORE)
    assert shown("heap", saved(BEFORE), "--by", "stream") == top.render(BEFORE, "stream")


def test_of_a_running_service() -> None:
    asked: list[float | None] = []

    def take(since: float | None) -> Profile:
        asked.append(since)
        return BEFORE

    with debug_address(heap=take) as port:
        assert shown("heap", f"127.0.0.1:{port}") == top.render(BEFORE)
        assert shown("heap", f"http://localhost:{port}/", "--since", 60) == top.render(BEFORE)
    assert asked == [None, 60.0]


def test_cpu_or_wall_time_of_a_running_service(saved: Files) -> None:
    asked: list[float] = []

    def take(seconds: float, _: threading.Event) -> Profile:
        asked.append(seconds)
        return CPU_PROFILE

    with debug_address(cpu=take) as port:
        assert shown("cpu", port) == top.render(CPU_PROFILE)
        assert shown("cpu", port, "--seconds", 0.5, "--wall") == top.render(choose.with_default(CPU_PROFILE, "wall"))
    assert asked == [10.0, 0.5]
    assert shown("cpu", saved(CPU_PROFILE)) == top.render(CPU_PROFILE)


def test_a_cpu_profile_may_take_longer_than_an_answer(tmp_path: Path) -> None:
    answered = threading.Event()

    def take(seconds: float, stop: threading.Event) -> Profile:
        stop.wait(seconds)
        answered.set()
        return CPU_PROFILE

    with debug_address(cpu=take) as port:
        assert shown("cpu", port, "--seconds", 0.15, "--timeout", 0.1) == top.render(CPU_PROFILE)
    assert answered.is_set()


def test_only_a_method_or_a_side(saved: Files) -> None:
    file = saved(BEFORE)
    assert shown("heap", file, "--method", "Chat/Talk") == top.render(choose.of_method(BEFORE, "Talk"))
    assert shown("heap", file, "--side", "client") == top.render(only(BEFORE, SIDE, "client"))
    assert shown("heap", file, "--side", "client", "--method", "Talk") == top.render(heap())


@pytest.mark.parametrize("by", [None, "method", "stream"])
def test_every_form_at_once(saved: Files, tmp_path: Path, by: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"--output": "o.pb.gz", "--flame": "f.html", "--speedscope": "s.json", "--collapsed": "c.txt"}
    options = [part for option, name in names.items() for part in (option, tmp_path / name)]
    out, err = printed(capsys, "heap", saved(BEFORE), *options, *(("--by", by) if by else ()))
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == [f"Wrote {tmp_path / each}" for each in names.values()]
    grouped = choose.grouped(BEFORE, by)
    assert pprof.decode((tmp_path / "o.pb.gz").read_bytes()) == grouped
    assert (tmp_path / "f.html").read_text("utf-8") == flame.page(grouped, "heap.pb.gz")
    assert json.loads((tmp_path / "s.json").read_text("utf-8")) == json.loads(speedscope.render(grouped, "heap.pb.gz"))
    assert (tmp_path / "c.txt").read_text("utf-8") == collapsed.render(grouped)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["heap.pb.gz", *names.values()])


def test_a_table_beside_a_file(saved: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "heap", saved(BEFORE), "--top", "-o", tmp_path / "copy")[0] == top.render(BEFORE)
    assert pprof.decode((tmp_path / "copy").read_bytes()) == BEFORE


def test_a_comparison_of_two_files_and_of_a_file_with_a_service(saved: Files) -> None:
    before, after = saved(BEFORE, "before.pb.gz"), saved(AFTER, "after.pb.gz")
    assert shown("heap", "--diff", before, after) == top.render(minus(AFTER, BEFORE))
    with debug_address(heap=lambda _: AFTER) as port:
        assert shown("heap", "--diff", before, f":{port}") == top.render(minus(AFTER, BEFORE))


def test_a_file_of_a_name_that_could_be_an_address(
    saved: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(BEFORE, "6060")
    assert shown("heap", "6060") == top.render(BEFORE)


def test_in_a_terminal_there_are_tables_and_names_stay_names(saved: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("FORCE_COLOR", "1")
    evil = heap(Sample((Frame("[red]f", "a.py", 1),), (1, 2048), call("[bold]M", "\x1b[2J", 1)))
    result = CliRunner().invoke(
        main, ["heap", saved(replace(evil, comments=("[b]note",)))], env={"TERM": "xterm-256color"}, color=True
    )
    assert "\x1b[2J" not in result.stdout
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", result.stdout)
    for part in ("inuse_space: 2.0 KiB", "\n[b]note\n", " flat ┃", "[red]f a.py:1", "[bold]M", "\\x1b[2J"):
        assert part in plain


# Files


def test_a_file_is_replaced_whole_and_a_link_stays_one(saved: Files, tmp_path: Path) -> None:
    file, link = tmp_path / "old", tmp_path / "link"
    file.write_bytes(b"x" * 100_000)
    link.symlink_to(file)
    shown("heap", saved(BEFORE), "--collapsed", link)
    assert link.is_symlink()
    assert file.read_text("utf-8") == collapsed.render(BEFORE)


def test_what_cant_be_written_leaves_what_was_there(
    saved: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    file = tmp_path / "old"
    file.write_text("old", "utf-8")
    profile = saved(BEFORE)
    monkeypatch.setattr(Path, "write_bytes", full)
    said = one_sentence(run("heap", profile, "--collapsed", file))
    assert said == f"Error: {file} can't be written: No space left on device. Name another file."
    assert file.read_text("utf-8") == "old"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["heap.pb.gz", "old"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_into_a_pipe(saved: Files, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text("utf-8")))
    reader.start()
    shown("heap", saved(BEFORE), "--collapsed", pipe)
    reader.join(20)
    assert read == [collapsed.render(BEFORE)]
    assert pipe.is_fifo()


# What goes wrong


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["heap", "no.pb.gz"], "'no.pb.gz' is neither a file nor an address. Write HOST:PORT, such as 127.0.0.1:6060."),
        (["heap", "https://localhost:6060"], "otelstream speaks plain HTTP"),
        (["heap", "/"], "/ can't be read: Is a directory. Name another file."),
        (["heap", "HEAP", "--since", "5"], "--since is for a service that runs, and HEAP is a file."),
        (["heap", "--since", "0"], "--since"),
        (["heap", "HEAP", "--diff", "HEAP", "HEAP"], "leave out the argument before it"),
        (["heap", "--diff", "HEAP", "HEAP", "--by", "stream"], "A comparison is by method, for streams come and go"),
        (
            ["heap", "--diff", "HEAP", "CPU"],
            "Error: One profile counts inuse_objects, wall, cpu, the other inuse_objects",
        ),
        (["heap", "HEAP", "--method", "alk"], "Error: No sample is of the method alk: there are shop.v1.Chat/Talk, "),
        (["heap", "BROKEN"], "BROKEN can't be shown: this is no pprof profile: its table of strings"),
        (["cpu", "HEAP"], "Error: The profile counts inuse_objects, inuse_space, and not cpu."),
        (["cpu", "--seconds", "61"], "61.0 is not in the range 0<x<=60"),
    ],
)
def test_wrong_arguments(arguments: list[str], says: str, saved: Files, tmp_path: Path) -> None:
    files = {"HEAP": saved(BEFORE), "CPU": saved(CPU_PROFILE, "cpu.pb.gz"), "BROKEN": str(tmp_path / "broken")}
    (tmp_path / "broken").write_bytes(b"")
    said = one_sentence(run(*(files.get(each, each) for each in arguments)))
    for name, path in files.items():
        said = said.replace(path, name)
    assert says in said


def test_what_a_profile_says_can_say_nothing_to_a_terminal(saved: Files) -> None:
    file = saved(heap(Sample((), (1, 1), call("\x1b[2J" + "x" * 5000, "server", 1))))
    said = one_sentence(run("heap", file, "--method", "Talk"))
    assert "there is \\x1b[2Jxxx" in said
    assert len(said) < 1000


def test_nothing_listens() -> None:
    assert f"Nothing listens at 127.0.0.1:{(port := free_port())}." in one_sentence(run("heap", port))


def test_the_token_comes_from_the_environment_or_an_option() -> None:
    with debug_address("right", heap=lambda _: BEFORE) as port:
        assert shown("heap", port, **{VARIABLE: "right"}) == top.render(BEFORE)
        assert shown("heap", port, "--token", "right") == top.render(BEFORE)
        assert f"wants a token. Set {VARIABLE}" in one_sentence(run("heap", port))
    assert "sesame" not in run("heap", "--help", **{VARIABLE: "sesame"}).output


def test_why_a_service_has_none_is_passed_on() -> None:
    def unavailable(_: float | None) -> Profile:
        raise ProfileUnavailable("The extension is not built. Install a compiler.")

    with debug_address(heap=unavailable) as port:
        said = one_sentence(run("heap", port))
    assert said == f"Error: 127.0.0.1:{port} answers 501: The extension is not built. Install a compiler."


def test_what_answers_nonsense_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pprof, "encode", lambda _: b"<html>")
    with debug_address(heap=lambda _: BEFORE) as port:
        said = one_sentence(run("heap", port))
    assert (
        f"What listens at 127.0.0.1:{port} is no otelstream debug address: its answer can't be read: this is no" in said
    )
