"""Settings: read from the environment, and every fault told by its variable, all at once."""

from __future__ import annotations

import re
import socket
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from roundtable.common.config import ConfigError, Settings, help_of, load, variable


class Own(Settings, frozen=True, kw_only=True):
    """Of a service that has some more."""

    jwt_secret: Annotated[str, Meta(min_length=32, description="Secret")] = ""
    allowed_origins: Annotated[tuple[str, ...], Meta(description="Origins")] = ()
    ratio: Annotated[float, Meta(ge=0, le=1, description="Ratio")] = 0.5
    dev_auth: bool = False


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = load(Settings, {})
    assert settings.nats_url == "nats://127.0.0.1:4222"
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8080)
    assert (settings.start_timeout, settings.provision) == (60.0, True)


def test_every_kind_of_setting_is_read_from_its_variable() -> None:
    environment = {
        "ROUNDTABLE_HTTP_PORT": " 9000 ",
        "ROUNDTABLE_START_TIMEOUT": "2.5",
        "ROUNDTABLE_ALLOWED_ORIGINS": "https://a.example, https://b.example,",
        "ROUNDTABLE_INSTANCE": "canvas-1.example",
        "ROUNDTABLE_LOG_LEVEL": "DEBUG",
        "HTTP_PORT": "1",
        "ROUNDTABLE_UNKNOWN": "x",
    }
    settings = load(Own, environment)
    assert settings.http_port == 9000
    assert settings.start_timeout == 2.5
    assert settings.allowed_origins == ("https://a.example", "https://b.example")
    assert settings.instance == "canvas-1.example"
    assert settings.log_level == "DEBUG"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load(Settings, {"ROUNDTABLE_HTTP_PORT": "", "ROUNDTABLE_NATS_URL": " "}) == load(Settings, {})


@pytest.mark.parametrize("text", ["1", "true", "True", "YES", "on"])
def test_yes_has_several_words(text: str) -> None:
    assert load(Own, {"ROUNDTABLE_DEV_AUTH": text}).dev_auth is True


@pytest.mark.parametrize("text", ["0", "false", "False", "NO", "off"])
def test_no_has_several_words(text: str) -> None:
    assert load(Settings, {"ROUNDTABLE_PROVISION": text}).provision is False


def test_all_faults_are_told_at_once_each_by_its_variable() -> None:
    wrong = {
        "ROUNDTABLE_HTTP_PORT": "65536",
        "ROUNDTABLE_PROVISION": "perhaps",
        "ROUNDTABLE_LOG_LEVEL": "LOUD",
        "ROUNDTABLE_START_TIMEOUT": "nan",
        "ROUNDTABLE_INSTANCE": "a b",
        "ROUNDTABLE_REPLICAS": "0",
        "ROUNDTABLE_RETENTION_DAYS": "-1",
        "ROUNDTABLE_DRAIN_SECONDS": "inf",
        "ROUNDTABLE_RATIO": "half",
    }
    with pytest.raises(ConfigError) as caught:
        load(Own, wrong)
    for name, text in wrong.items():
        assert f"{name}={text!r}: Expected" in str(caught.value)


def test_a_secret_is_not_told_even_if_it_is_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Own, {"ROUNDTABLE_JWT_SECRET": "too short"})
    assert "ROUNDTABLE_JWT_SECRET" in str(caught.value)
    assert "too short" not in str(caught.value)


@given(st.sampled_from([variable(name) for name in Own.__struct_fields__]), st.text())
def test_any_text_is_a_setting_or_a_fault_that_names_it(name: str, text: str) -> None:
    try:
        load(Own, {name: text})
        told = name
    except ConfigError as error:
        told = str(error)
    assert told.startswith(name)


@pytest.mark.parametrize("host", ["", "a host", "ünïcode", "x" * 100, "canvas-7d9f.local"])
def test_the_hosts_name_makes_an_instance_whatever_it_is(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    instance = load(Settings, {}).instance
    assert load(Settings, {"ROUNDTABLE_INSTANCE": instance}).instance == instance


def test_the_help_has_a_row_for_every_setting() -> None:
    rows = help_of(Settings)
    assert [name for name, _, _ in rows] == [variable(name) for name in Settings.__struct_fields__]
    assert all(meaning and re.fullmatch(r"ROUNDTABLE_[A-Z_]+", name) for name, _, meaning in rows)
    assert {name: default for name, default, _ in rows}["ROUNDTABLE_HTTP_PORT"] == "8080"
    assert socket.gethostname() not in {default for _, default, _ in rows}
