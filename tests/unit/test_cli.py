"""The command line: one clear line for anything wrong, exit 2; never a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from exporter import __version__
from exporter.cli import main
from exporter.config import Option, Settings, options

UPSTREAM = ("--upstream", "127.0.0.1:8080")


def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str) -> tuple[int, str, str]:
    """Run the command line in this process: status, output, errors."""
    monkeypatch.setattr(sys, "argv", ["websocket-exporter", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def wrong(option: Option) -> tuple[str, str]:
    """A value that the option does not take, and words that its complaint must hold."""
    by_metavar = {
        "DURATION": ("5minutes", "500ms"),
        "SIZE": ("64 kilos", "64KiB"),
        "COUNT": ("-3", "whole number"),
        "[HOST]:PORT": ("here", "[HOST]:PORT"),
        "HOST:PORT|unix:PATH": ("there", "HOST:PORT or unix:/path"),
        "PATTERN": ("chat", "slash"),
        "CODE[=CAUSE]": ("1011=mine", "3000 to 4999"),
        "NAME": ("myspace", "graphql-ws"),
        "HOSTNAME": ("chat.example.com:80", "without a port"),
        "COUNT|auto": ("0", "auto or a whole number"),
    }
    if option.metavar in by_metavar:
        return by_metavar[option.metavar]
    return "no-such-choice", "expected"


#: Paths are taken as they are; what is wrong with a file is said when it is read.
TAKING = [option for option in options() if not option.switch and option.metavar != "FILE"]


def assert_one_line(code: int, out: str, err: str, *words: str) -> None:
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("websocket-exporter: error: ")
    assert re.search(r"; see 'websocket-exporter[a-z ]* --help'$", err.rstrip()), err
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize("option", TAKING, ids=lambda option: option.flag)
def test_a_wrong_value_is_one_line_and_exit_2(
    option: Option, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names the flag, the value and what is accepted."""
    value, accepted = wrong(option)
    args = [] if option.name == "upstream" else list(UPSTREAM)
    result = call(capsys, monkeypatch, "run", *args, f"{option.flag}={value}")
    assert_one_line(*result, option.flag, value, accepted)


@pytest.mark.parametrize("option", TAKING, ids=lambda option: option.variable)
def test_a_wrong_variable_is_one_line_and_exit_2(
    option: Option, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for what came from the environment."""
    value, accepted = wrong(option)
    if option.many:
        value = value.split()[0]
    args = [] if option.name == "upstream" else list(UPSTREAM)
    monkeypatch.setenv(option.variable, value)
    result = call(capsys, monkeypatch, "run", *args)
    assert_one_line(*result, option.flag, value, accepted)


@pytest.mark.parametrize("option", [o for o in options() if o.switch], ids=lambda option: option.variable)
def test_a_wrong_switch_is_one_line_and_exit_2(
    option: Option, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A switch in the environment takes yes and no in their usual spellings, and says so about anything else."""
    monkeypatch.setenv(option.variable, "perhaps")
    result = call(capsys, monkeypatch, "run", *UPSTREAM)
    assert_one_line(*result, option.flag, "perhaps", "true", "false")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["run"], ["--upstream"]),
        (["run", *UPSTREAM, "--no-such-flag"], ["--no-such-flag"]),
        (["run", *UPSTREAM, "more"], ["more"]),
        (["run", "--upstream"], ["--upstream"]),
        (["run", *UPSTREAM, "--drain-grace", "31s"], ["--drain-grace", "31s", "--drain-timeout", "30s"]),
        (["run", *UPSTREAM, "--listen", ":1", "--listen", ":2"], ["--listen", "given 2 times"]),
        (["run", "--upstream", "http://127.0.0.1:8080"], ["--upstream", "leave out http://"]),
        (["run", *UPSTREAM, "--admin", ":10010"], ["--admin", ":10010", "--listen"]),
        (["run", "--upstream", "127.0.0.1:10010"], ["--upstream", "127.0.0.1:10010", "own --listen"]),
        (["run", *UPSTREAM, "--connect-timeout", "0"], ["--connect-timeout", "above 0"]),
        (["run", *UPSTREAM, "--drain-timeout", "9999h"], ["--drain-timeout", "9999h", "a year"]),
        (["no-such-command"], ["no-such-command"]),
        (["--no-such-flag"], ["--no-such-flag"]),
        (["explain"], ["a code, a label or a cause"]),
        (["explain", "abc"], ["abc", "expected a code"]),
        (["explain", "1001", "--yaml"], ["--yaml"]),
        (["drain", "--wait=perhaps"], ["--wait"]),
    ],
    ids=" ".join,
)
def test_a_wrong_command_is_one_line_and_exit_2(
    args: list[str], words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown and missing flags, commands and arguments."""
    assert_one_line(*call(capsys, monkeypatch, *args), *words)


def taken(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Catch the settings that `run` would run with."""
    caught: list[Settings] = []

    def run(settings: Settings) -> int:
        caught.append(settings)
        return 0

    monkeypatch.setattr("exporter.supervisor.run", run)
    return caught


def test_flags_become_settings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given arrives, parsed; what is not has its default."""
    caught = taken(monkeypatch)
    status, out, err = call(
        capsys, monkeypatch, "run", *UPSTREAM, "--route", "/a/*", "--route", "/b", "--code", "4401=unauthorized",
        "--drain-timeout", "1m", "--max-head", "8KiB", "--drain-from-anywhere",
    )  # fmt: skip
    assert (status, out, err) == (0, "", "")
    (settings,) = caught
    assert str(settings.upstream) == "127.0.0.1:8080"
    assert settings.route == ("/a/*", "/b")
    assert [(code, str(cause)) for code, cause in settings.code] == [(4401, "unauthorized")]
    assert (settings.drain_timeout, settings.max_head, settings.drain_from_anywhere) == (60.0, 8192, True)
    assert str(settings.listen) == ":10010"


def test_variables_become_settings_and_flags_go_before_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every flag has a variable; repeatable ones take several values; a flag beats its variable."""
    caught = taken(monkeypatch)
    for name, value in {"UPSTREAM": "unix:/run/app.sock", "ROUTE": "/a/* /b", "LOG_LEVEL": "error",
                        "DRAIN_FROM_ANYWHERE": "true", "LISTEN": ":1"}.items():  # fmt: skip
        monkeypatch.setenv(f"WEBSOCKET_EXPORTER_{name}", value)
    assert call(capsys, monkeypatch, "run", "--listen", ":2")[0] == 0
    (settings,) = caught
    assert str(settings.upstream) == "unix:/run/app.sock"
    assert (settings.route, settings.log_level) == (("/a/*", "/b"), "error")
    assert settings.drain_from_anywhere is True
    assert str(settings.listen) == ":2"


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`run --help` lists each flag with its default."""
    status, out, err = call(capsys, monkeypatch, "run", "--help")
    assert (status, err) == (0, "")
    for option in options():
        assert option.flag in out
        if option.default and not option.switch:
            assert option.default in out


def test_the_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """--version names the program and its version."""
    assert call(capsys, monkeypatch, "--version")[:2] == (0, f"websocket-exporter, version {__version__}\n")


def test_explain_for_a_person_and_for_a_program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text by default, JSON on request."""
    status, out, err = call(capsys, monkeypatch, "explain", "1001", "1011")
    assert (status, err) == (0, "")
    assert "Going Away" in out.splitlines()[0]
    assert "Internal Error" in out.splitlines()[0]
    status, out, err = call(capsys, monkeypatch, "explain", "--json", "1001", "4321")
    assert (status, err) == (0, "")
    assert [entry["code"] for entry in json.loads(out)] == [1001, 4321]


def test_draining_nobody_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`drain` without a sidecar: one line that names the address, exit 1."""
    status, out, err = call(capsys, monkeypatch, "drain", "--admin", "127.0.0.1:1")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "127.0.0.1:1" in err


def test_a_real_process_says_the_same() -> None:
    """What a shell sees of a wrong value: one line on stderr, nothing on stdout, status 2."""
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "run", "--upstream", "nowhere"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        check=False,
    )
    assert_one_line(done.returncode, done.stdout, done.stderr, "--upstream", "nowhere", "HOST:PORT")


def test_explain_needs_no_event_loop() -> None:
    """A quick question gets a quick answer: no server library is imported for it."""
    script = (
        "import sys; sys.argv = ['x', 'explain', '1001']\n"
        "from exporter.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('asyncio', 'aiohttp', 'prometheus_client') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (["nonsense"], "websocket-exporter"),
        (["explain"], "websocket-exporter explain"),
        (["drain", "--nonsense"], "websocket-exporter drain"),
        (["inject", "--nonsense"], "websocket-exporter inject"),
        (["webhook", "--tls-cert=/nowhere", "--tls-key=/nowhere", "--image=x"], "websocket-exporter webhook"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_error_ends_with_how_to_get_help(
    args: list[str], command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every usage error of every command ends with the command that prints its help."""
    assert_one_line(*call(capsys, monkeypatch, *args), f"; see '{command} --help'")


def test_run_check_validates_without_serving(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run --check` says that all is valid, status 0, and starts nobody."""
    caught = taken(monkeypatch)
    result = call(capsys, monkeypatch, "run", *UPSTREAM, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--check")
    assert result == (0, "settings, files and ports are valid\n", "")
    assert caught == []


def test_run_with_an_unknown_variable_warns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt variable is named on stderr; those that Kubernetes sets for a Service of our name are not."""
    taken(monkeypatch)
    for name in ("LISTN", "SERVICE_HOST", "PORT_10011_TCP_ADDR", "IMAGE"):
        monkeypatch.setenv(f"WEBSOCKET_EXPORTER_{name}", "x")
    status, _, err = call(capsys, monkeypatch, "run", *UPSTREAM)
    assert status == 0
    assert err.count("\n") == 1
    assert "WEBSOCKET_EXPORTER_LISTN is not a setting" in err


def test_run_help_has_sections(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`run --help` groups the flags."""
    out = call(capsys, monkeypatch, "run", "--help")[1]
    sections = ["Traffic", "Observation", "Drain", "TLS", "Admin port", "Logging"]
    places = [out.index(f"{section} options:") for section in sections]
    assert places == sorted(places)
