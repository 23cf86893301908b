"""The configuration names the key that is wrong and never shows its value."""

import pytest
from pydantic import SecretStr

from tickmesh.domain.errors import ConfigError
from tickmesh.settings import load
from tickmesh.settings.load import keys, variable


def test_defaults_load_from_an_empty_environment() -> None:
    assert load({}).venue.name == "binance"


def test_environment_wins_over_the_file(tmp_path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("venue: {account: filed, symbols: [XUSDT]}")
    settings = load({"TICKMESH_CONFIG": str(file), "TICKMESH_VENUE__ACCOUNT": "env"})
    assert settings.venue.account == "env"
    assert settings.venue.symbols == ["XUSDT"]


def test_lists_come_as_commas_or_json() -> None:
    assert load({"TICKMESH_VENUE__SYMBOLS": "A, B"}).venue.symbols == ["A", "B"]
    assert load({"TICKMESH_VENUE__SYMBOLS": '["A","B"]'}).venue.symbols == ["A", "B"]


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"TICKMESH_VENUE__SYMBOL": "X"}, "TICKMESH_VENUE__SYMBOLS"),
        ({"TICKMESH_NOPE": "X"}, "TICKMESH_NOPE"),
        ({"TICKMESH_FEED__ADMIN_PORT": "99999999"}, "feed.admin_port"),
        ({"TICKMESH_LOCAL__TRANSPORT": "pigeon"}, "local.transport"),
        ({"TICKMESH_NATS__URL": "localhost"}, "nats.url (TICKMESH_NATS__URL) is wrong: it must read nats://host:port"),
        ({"TICKMESH_NATS__URL": "nats://127.0.0.1:99999"}, "nats.url"),
        ({"TICKMESH_POSTGRES__DSN": "secret-nonsense"}, "postgres.dsn"),
        ({"TICKMESH_REDIS__URL": "redis://:hunter2-secret@"}, "redis.url"),
        ({"TICKMESH_VENUE__REST_URL": "ws://127.0.0.1:1"}, "venue.rest_url"),
        ({"TICKMESH_VENUE__SYMBOLS": ""}, "name at least one symbol"),
        ({"TICKMESH_VENUE__SYMBOLS": "btcusdt"}, "venue.symbols"),
    ],
)
def test_a_wrong_key_or_value_is_named_in_one_sentence(environ, named) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_symbol_named_twice_is_followed_once() -> None:
    assert load({"TICKMESH_VENUE__SYMBOLS": "BTCUSDT,ETHUSDT,BTCUSDT"}).venue.symbols == ["BTCUSDT", "ETHUSDT"]


def test_a_wrong_key_in_the_file_is_named(tmp_path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("venue: {acount: x}")
    with pytest.raises(ConfigError, match="TICKMESH_VENUE__ACCOUNT"):
        load({"TICKMESH_CONFIG": str(file)})


def test_every_key_says_why_and_secrets_are_hidden() -> None:
    settings = load({})
    for path, info in keys():
        assert info.description, path
        section, name = path.split(".")
        if isinstance(getattr(getattr(settings, section), name), SecretStr):
            assert "local" not in repr(getattr(getattr(settings, section), name))
        assert variable(path).startswith("TICKMESH_")


def test_an_empty_text_is_an_empty_list() -> None:
    assert load({"TICKMESH_RISK__CRITICAL_SERVICES": ""}).risk.critical_services == []
    assert load({"TICKMESH_RISK__CRITICAL_SERVICES": "feed, account"}).risk.critical_services == ["feed", "account"]
