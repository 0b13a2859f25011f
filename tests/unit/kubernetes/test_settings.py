"""Settings: what inject accepts, the sidecar accepts too; flags and annotations are the same set."""

from __future__ import annotations

from dataclasses import fields

import pytest
from click.testing import CliRunner

from exporter.kubernetes.command import inject, webhook
from exporter.kubernetes.container import arguments
from exporter.kubernetes.settings import READERS, Scrape, Settings, override


def test_every_setting_has_a_reader() -> None:
    """Settings and the table of readers name the same things."""
    assert {name.replace("-", "_") for name in READERS} == {field.name for field in fields(Settings)}


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_setting_is_a_flag_of_both_commands(name: str) -> None:
    """What an annotation can say, a flag of inject and of webhook can say."""
    for command in (inject, webhook):
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert f"--{name}" in flags


def test_flags_and_defaults_agree() -> None:
    """inject without flags wishes for what Settings has as defaults."""
    shown = CliRunner().invoke(inject, ["--help"]).stdout
    assert "default: 10010" in shown
    default = Settings()
    for name, reader in READERS.items():
        value = getattr(default, name.replace("-", "_"))
        if isinstance(value, str) and not isinstance(value, Scrape):
            assert reader(value) == value


EVERY_FLAG = override(
    Settings(),
    {
        "route": "/chat/*\n/presence/*",
        "drain-grace": "500ms",
        "drain-spread": "0.5",
        "drain-timeout": "1h",
        "drain-linger": "2m",
        "close-timeout": "5s",
        "proxy-protocol": "true",
    },
)


@pytest.mark.parametrize("settings", [Settings(), EVERY_FLAG], ids=["defaults", "every flag"])
def test_the_sidecar_takes_the_command_line_it_is_given(settings: Settings) -> None:
    """The arguments that inject writes are read by `run` without complaint."""
    cli = pytest.importorskip("exporter.cli", reason="exporter.cli is not in this tree")
    name, *flags = arguments(settings, 8080)
    run = cli.cli.get_command(None, name)
    context = run.make_context(name, flags)
    assert context.params["upstream"].port == 8080
    assert context.params["route"] == settings.route


@pytest.mark.parametrize("text", ["5", "0.5", "500ms", "5s", "2m", "1h", ".5", "5 s", "-1", "1d", "", "٣s", "1e3"])
def test_durations_are_those_of_the_sidecar(text: str) -> None:
    """inject and run agree on what a duration is."""
    config = pytest.importorskip("exporter.config", reason="exporter.config is not in this tree")
    try:
        expected = config.parse_duration(text)
    except ValueError:
        expected = None
    try:
        found = READERS["drain-timeout"](text)
    except ValueError:
        found = None
    assert (found is None) == (expected is None)
