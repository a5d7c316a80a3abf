"""`make airflow` with recipes, ports and addresses that do not serve."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from scripts.run_airflow import (
    DATABASE,
    check_database,
    check_port,
    check_recipes,
    environment,
)


def test_a_place_without_recipes_is_refused_before_airflow_starts(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"No folder or recipe .*absent: correct RECIPES"):
        check_recipes(tmp_path / "absent")
    with pytest.raises(SystemExit, match=r"No recipe \(\*\.yaml\) in .*curation init"):
        check_recipes(tmp_path)
    (tmp_path / "birds.yml").write_text("name: birds")
    check_recipes(tmp_path)
    check_recipes(tmp_path / "birds.yml")


def test_a_store_starts_where_make_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stores = {
        "store": str(tmp_path / "store"),
        "/data/store": "/data/store",
        "s3://b/p": "s3://b/p",
    }
    for given, meant in stores.items():
        variables = environment(tmp_path / "home", 8080, tmp_path / "recipes", given)
        assert variables["CURATION_STORE"] == meant


def test_a_port_that_another_program_has_is_refused_before_airflow_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=rf"Port {port} of 127\.0\.0\.1 .*AIRFLOW_PORT"):
            check_port(port)
    check_port(port)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_an_address_of_postgresql_names_the_driver_that_is_installed(scheme: str) -> None:
    with pytest.raises(SystemExit, match=r"write postgresql\+psycopg2://") as raised:
        check_database({DATABASE: f"{scheme}://me:secret@127.0.0.1/airflow"})
    assert "secret" not in str(raised.value)
    check_database({DATABASE: "postgresql+psycopg2://me:secret@127.0.0.1/airflow"})
    check_database({})


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_is_asked_for_the_web_server_of_this_machine(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for listed in ("", "intranet.example"):
        monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
        monkeypatch.setenv(name, listed)
        variables = environment(tmp_path / "home", 8080, tmp_path / "recipes", "store")
        for each in ("no_proxy", "NO_PROXY"):
            assert "127.0.0.1" in variables[each].split(",")
            assert not listed or listed in variables[each].split(",")
