"""The table of settings: flags, annotations and the sidecar's command line agree."""

from __future__ import annotations

from dataclasses import fields

import pytest
from click.testing import CliRunner

from exporter.cli import cli
from exporter.kubernetes.command import inject, webhook
from exporter.kubernetes.pod import sidecar_container
from exporter.kubernetes.settings import OPTIONS, TENANT_SETTINGS, Settings, settings_of
from exporter.units import parse_duration
from tests.unit.kubernetes.manifests import make_settings

DEFAULTS = make_settings()


@pytest.mark.parametrize("name", sorted(OPTIONS))
@pytest.mark.parametrize("command", [inject, webhook], ids=lambda command: str(command.name))
def test_options_each_is_a_flag_of_both_commands(name: str, command: object) -> None:
    """A setting in the table is a flag of inject and of webhook, with the table's help and default."""
    option = OPTIONS[name]
    (parameter,) = [one for one in command.params if one.name == option.field]  # type: ignore[attr-defined]
    assert f"--{name}" in parameter.opts
    assert parameter.help == option.help


def test_options_defaults_are_those_of_settings() -> None:
    """The table's default text, parsed, is the field's default; only the image has none."""
    assert [one.name for one in fields(Settings)] == [option.field for option in OPTIONS.values()]
    for option in OPTIONS.values():
        if option.default is not None:
            assert option.read(option.default) == getattr(DEFAULTS, option.field)
    with pytest.raises(TypeError, match="image"):
        Settings()  # type: ignore[call-arg]


def test_options_flags_without_values_give_the_defaults() -> None:
    """inject without flags has the settings of Settings."""
    context = inject.make_context("inject", ["--image", DEFAULTS.image])
    assert Settings(**{option.field: context.params[option.field] for option in OPTIONS.values()}) == DEFAULTS


def test_tenant_settings_exclude_what_belongs_to_the_operator() -> None:
    """By default a tenant chooses no image, no argument and no resources of the sidecar."""
    assert not TENANT_SETTINGS & {"image", "image-pull-policy", "extra-arg", "memory-limit", "cpu-limit"}
    assert {"port", "route", "drain-timeout"} <= TENANT_SETTINGS


EVERY_FLAG = settings_of(
    DEFAULTS,
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


@pytest.mark.parametrize("settings", [DEFAULTS, EVERY_FLAG], ids=["defaults", "every flag"])
def test_arguments_are_parsed_by_run(settings: Settings) -> None:
    """`run` accepts the command line that inject writes, with the values that it had."""
    name, *flags = sidecar_container(settings, 8080, {})["args"]
    run = cli.get_command(None, name)  # type: ignore[arg-type]
    assert run is not None
    parameters = run.make_context(name, flags).params
    assert parameters["upstream"].port == 8080
    assert parameters["listen"].port == settings.listen_port
    assert parameters["route"] == settings.route
    for field in ("drain_grace", "drain_spread", "drain_timeout", "drain_linger", "close_timeout"):
        assert parameters[field] == parse_duration(getattr(settings, field))


@pytest.mark.parametrize(
    "text", ["5", "0.5", "500ms", "5s", "2m", "1h", "1m30s", ".5", "5 s", "-1", "1d", "", "٣s", "1e3"]
)
def test_durations_are_those_of_run(text: str) -> None:
    """inject accepts a duration if and only if run does."""

    def accepted(parse: object) -> bool:
        try:
            parse(text)  # type: ignore[operator]
        except ValueError:
            return False
        return True

    assert accepted(OPTIONS["drain-timeout"].parse) == accepted(parse_duration)


@pytest.mark.parametrize("command", [["inject"], ["webhook", "--tls-cert=x", "--tls-key=x"]], ids=lambda one: one[0])
def test_image_missing_prints_one_line(command: list[str]) -> None:
    """Without --image and WEBSOCKET_EXPORTER_IMAGE one line names both, and the exit status is 2."""
    result = CliRunner().invoke(cli, command, input="", env={"WEBSOCKET_EXPORTER_IMAGE": None})
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = [one for one in result.stderr.splitlines() if "--image" in one]
    assert "WEBSOCKET_EXPORTER_IMAGE" in line


def test_image_from_the_environment_is_used() -> None:
    """WEBSOCKET_EXPORTER_IMAGE stands for --image."""
    text = "kind: Pod\napiVersion: v1\nspec: {containers: [{name: a, ports: [{containerPort: 80}]}]}\n"
    result = CliRunner().invoke(cli, ["inject"], input=text, env={"WEBSOCKET_EXPORTER_IMAGE": "registry.example/w:3"})
    assert result.exit_code == 0, result.stderr
    assert "registry.example/w:3" in result.stdout
