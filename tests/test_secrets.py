"""A secret that a process was given is in nothing that it shows or stores."""

from __future__ import annotations

import base64
import html
import http.server
import json
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.cli import main
from curation.cli.inspect_commands import truncate
from curation.cli.sql_command import _cell
from curation.engine.cluster import load_cluster
from curation.engine.params_base import StrictModel, changed_fields, manifest_params
from curation.engine.spark_workers import _ErrorAsResult
from curation.errors import CurationError, DamagedFileError, Detail, RecipeError, StoreError
from curation.inspect.html import render_page
from curation.inspect.report.album import shorten
from curation.inspect.why.text import _short
from curation.recipe import parse_recipe
from curation.secrets import MAX_KNOWN, conceal, forget_secrets, note_secrets, note_settings
from curation.store.sealed_json import seal, unseal
from curation.store.storage.object_address import writer_settings
from curation.store.storage.open import open_storage
from tests.ingest.helpers import run, source, table, write

ADDRESSES = {
    "user": "https://user:{}@host.example/list.csv",
    "token": "https://{}@host.example/list.csv",
    "of_s3": "s3://AKIAIOSFODNN7:{}@bucket/list",
    "of_ftp": "ftp://user:{}@host.example/list.csv",
    "of_hdfs": "hdfs://user:{}@host.example:9000/list",
    "option": "s3://bucket/list?access_key=AKIA&secret_key={}",
    "options": "s3://bucket/list?region=x&session_token={}&scheme=http",
    "kerberos": "hdfs://host.example:9000/list?password={}",
    "azure": "abfs://container@account.dfs.example/list?sv=2024-01-01&sig={}",
}
SIGNED = {
    "signature": "http://127.0.0.1:1/list.csv?X-Amz-Signature={}&x=1",
    "sas": "http://127.0.0.1:1/list.csv?sv=1&se=2&sig={}",
    "token_of_query": "http://127.0.0.1:1/list.csv?token={}",
}
QUOTATIONS: dict[str, Callable[[str], str]] = {
    "raw": lambda secret: f"denied for key {secret}",
    "repr": lambda secret: f"options={[secret]!r}",
    "json": lambda secret: json.dumps({"key": secret}),
    "html": html.escape,
    "quoted": lambda secret: f"GET /l?x={quote(secret, safe='')} 403",
    "plus": quote_plus,
    "escaped": lambda secret: secret.encode("unicode_escape").decode(),
    "header": lambda secret: base64.b64encode(f"user:{secret}".encode()).decode(),
}
SECRETS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="&#\"'<>/?@:%;=\\"),
    min_size=12,
    max_size=40,
).filter(lambda text: len(set(text)) > 6)


@pytest.fixture(autouse=True)
def nothing_noted() -> Iterator[None]:
    forget_secrets()
    yield
    forget_secrets()


@given(SECRETS, st.sampled_from([*ADDRESSES.values(), *SIGNED.values()]))
def test_no_library_can_say_a_secret_in_any_form(secret: str, address: str) -> None:
    forget_secrets()
    note_secrets(f"The address '{address.format(quote(secret, safe=''))}' of a recipe")
    forms = {name: quote_as(secret) for name, quote_as in QUOTATIONS.items()}
    if "user:{}" not in address or not address.startswith("http"):
        del forms["header"]
    for form in forms.values():
        shown = conceal(f"It failed: {form}.")
        assert secret not in shown
        assert form == form.replace(secret, "") or "***" in shown
        assert str(CurationError(form)) == conceal(form)
    if "header" in forms:
        assert forms["header"] not in conceal(f"Authorization: Basic {forms['header']}")


@given(st.text())
def test_without_secrets_a_text_without_addresses_stays(text: str) -> None:
    if not set(text) & set(":?"):
        assert conceal(text) == text


def test_settings_are_secret_by_their_names(tmp_path: Path) -> None:
    values = {
        "AWS_SECRET_ACCESS_KEY": "aSecretOne",
        "spark.hadoop.fs.s3a.access.key": "aSecretTwo",
        "spark.authenticate.secret": "aSecretThree",
        "GITHUB_TOKEN": "aSecretFour",
        "DATABASE_URL": "postgres://me:aSecretFive@h/x",
        "AZURE_STORAGE_KEY": "aSecretSix",
        "AZURE_STORAGE_CONNECTION_STRING": (
            "DefaultEndpointsProtocol=https;AccountName=name;AccountKey=aSecretSeven==;EndpointSuffix=x"
        ),
        "SERVICEBUS_CONNECTIONSTRING": "Endpoint=x;Shared Access Key = aSecretEight",
        "spark.hadoop.fs.azure.sas.container.account.blob.example": "sv=1&sig=aSecretNine",
        "REGISTRIES": ' [{"host": "h", "password": "aSecretTwelve"}]',
        "MYSQL_PWD": "aSecretEleven",
        "DB_PASS": "aSecretThirteen",
        "DB_PASSWORD": "2026113020261130",
        "FSSPEC_S3": '{"key": "AKIA", "client": {"secret": "aSecretTen", "url": "s3://k:aSecretOf@b/"}}',
    }
    open_ones = {
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path),
        "spark.authenticate": "false",
        "AWS_PROFILE": "images",
        "PWD": "/home/of/somebody",
        "spark.kerberos.renewal.credentials.seconds": "3600000",
        "TOKENIZERS_PARALLELISM": "falsehood",
        "spark.hadoop.fs.s3a.aws.credentials.provider": "org.apache.Provider",
        "SECRET": "abc",
        "spark.io.encryption.keySizeBits": "of 256 bits",
        "BROKEN": "{not JSON",
        "PLAIN": '{"name": "images", "list": [1]}',
        "SAS_HOME": str(tmp_path),
    }
    note_settings(values | open_ones)
    assert conceal(" ".join(values.values())).count("aSecret") == 0
    assert conceal("denied for 2026113020261130") == "denied for ***"
    for alone in ("aSecretSeven==", "aSecretEight", "aSecretTen", "aSecretTwelve", "aSecretOf"):
        assert conceal(f"denied for {alone}") == "denied for ***"
    text = " ".join(open_ones.values())
    assert conceal(text) == text


def test_each_line_of_a_secret_is_secret() -> None:
    """Other programs print one line after the other, as a JVM does."""
    lines = [
        "-----BEGIN PRIVATE KEY-----",
        "Zq8vKp2mX4rTn7wBZq8vKp2mX4rTn7wB",
        "Kp2mX4rTn7wBZq8v==",
    ]
    note_settings({"DEPLOY_PRIVATE_KEY": "\n".join(lines) + "\n"})
    for line in lines:
        assert conceal(f"a line: {line}.") == "a line: ***."


def test_the_keys_of_a_profile_are_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = aSecretKey\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert writer_settings("s3", {}, None)["secret_access_key"] == "aSecretKey"
    assert "aSecretKey" not in conceal("403: the signature by aSecretKey differs")


@pytest.mark.parametrize("shown", [lambda t: truncate(t, 120), _cell, _short, shorten])
def test_a_secret_is_concealed_before_a_text_is_cut(shown: Callable[[str], str]) -> None:
    secret = "Zq8vKp2mX4rTn7wB"
    note_secrets(f"https://b.example/?token={secret}")
    for before in range(60, 420):
        for text in (f"{'x' * before} key {secret}", f"{'x' * before} http://{secret}@h.example/"):
            assert secret[:4] not in shown(text * 3)


def test_errors_of_any_kind_are_masked_and_still_travel() -> None:
    error = DamagedFileError("https://u:abcdefgh@h/x is damaged", path="a/b", sha256="ab")
    assert str(error) == "https://***@h/x is damaged"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.path, again.sha256) == (str(error), "a/b", "ab")


def test_details_have_no_secret_where_only_the_worker_knew_it() -> None:
    secret = "Zq8vKp2mX4rT"
    note_secrets(f"https://user:{secret}@h.example/")
    fields = f"no {secret}", f"key {secret}", {secret: [secret]}, [secret], f"not {secret}"
    error = StoreError(Detail(*fields))
    sent = pickle.dumps(error)
    forget_secrets()
    assert secret not in json.dumps(pickle.loads(sent).to_json())
    assert secret.encode() not in sent


def test_exceptions_of_libraries_leave_a_worker_without_secrets() -> None:
    note_secrets("https://user:s3cr3tpassword@h.example/")

    def read(item: str) -> None:
        raise ValueError(f"connection refused: key={item}")

    for item, kind in (
        ("s3cr3tpassword", RuntimeError),
        ("\x1b[2J", RuntimeError),
        ("x", ValueError),
    ):
        with pytest.raises(kind) as raised:
            _ErrorAsResult(read, {})(item)
        assert "connection refused" in str(raised.value)
        assert not {"s3cr3tpassword", "\x1b"} & set(str(raised.value).split("="))
        assert raised.value.__cause__ is None


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
def test_credentials_in_addresses_of_stores_and_sources_are_refused(address: str) -> None:
    secret = "Zq8vKp2mX4rT"
    with pytest.raises(StoreError) as of_store:
        open_storage(address.format(secret))
    with pytest.raises(RecipeError) as of_source:
        parse_recipe({"name": "a", "sources": [source(address.format(secret))]})
    for error in (of_store.value, of_source.value):
        assert secret not in str(error)
        assert "environment" in str(error)


class _Params(StrictModel):
    address: str
    count: int = 1


def test_manifests_and_records_have_no_secret_and_a_new_signature_is_no_change() -> None:
    before = _Params(address="https://h/l?sig=abcdefgh&x=1")
    kept = manifest_params(before)
    assert kept == {"address": "https://h/l?sig=***&x=1", "count": 1}
    assert changed_fields(_Params(address="https://h/l?sig=ijklmnop&x=1"), kept) == set()
    assert changed_fields(_Params(address="https://h/l?sig=ijklmnop&x=2"), kept) == {"address"}
    spec = {"a": {"https://u:abcdefgh@h/": [{"b": ["https://h/l?sig=abcdefgh"]}, 1, None]}}
    sealed = seal(spec)
    assert b"abcdefgh" not in sealed
    assert unseal(sealed) == {"a": {"https://***@h/": [{"b": ["https://h/l?sig=***"]}, 1, None]}}


def test_pages_have_no_secret(tmp_path: Path) -> None:
    template = tmp_path / "x.html.j2"
    template.write_text("<p title='{{ a }}'>{{ a }}{{ b }}{{ n }}</p>")
    content = {"a": "https://u:abcdefgh@h/?a=1&sig=abcdefgh", "b": "<i>", "n": 3}
    page = render_page(template, content, {}).decode()
    assert "abcdefgh" not in page
    assert page.endswith("***&lt;i&gt;3</p>")


def test_secrets_of_a_cluster_file_are_known(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("master: local\nconf:\n  spark.authenticate.secret: [Zq8vKp2mX4rT]\n")
    with pytest.raises(RecipeError) as raised:
        load_cluster(str(file))
    file.write_text("master: local\nconf:\n  spark.authenticate.secret: Zq8vKp2mX4rT\n")
    load_cluster(str(file))
    assert "Zq8vKp2mX4rT" not in conceal(f"spark.authenticate.secret=Zq8vKp2mX4rT {raised.value}")


def _command(*arguments: str) -> None:
    sys.argv = ["curation", *arguments]
    with pytest.raises(SystemExit):
        main()


@settings(max_examples=6, deadline=None)
@given(secret=SECRETS, address=st.sampled_from([*ADDRESSES.values(), *SIGNED.values()]))
def test_no_failing_command_says_or_stores_a_secret(
    secret: str, address: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch, _captured() as printed:
        patch.setattr(sys, "argv", [])
        patch.setenv("AWS_SECRET_ACCESS_KEY", secret + "x")
        folder, written = tmp_path_factory.mktemp("r"), address.format(quote(secret, safe=""))
        recipe = folder / "recipe.yaml"
        spec = {"name": "a", "sources": [source(written, format="csv")]}
        recipe.write_text(yaml.safe_dump(spec))
        broken = folder / "broken.yaml"
        broken.write_text(f"name: [a\nsources: '{written}'\n")
        for file in (recipe, broken):
            _command("plan", str(file))
            _command("run", str(file), "--store", str(folder / "store"))
        _command("runs", "--store", written)
        _command("show", written, "--store", str(folder / "store"))
        _command("diff", written, written)
    assert printed
    output = "".join(printed)
    assert secret not in output and quote(secret, safe="") not in output
    for file in (folder / "store").rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes()


class _captured:
    """Collects what is printed; `capsys` cannot be used with hypothesis."""

    def __enter__(self) -> list[str]:
        self.printed: list[str] = []
        self.patch = pytest.MonkeyPatch()
        for name in ("stdout", "stderr"):
            self.patch.setattr(sys, name, _Collector(self.printed))
        return self.printed

    def __exit__(self, *error: object) -> None:
        self.patch.undo()


class _Collector:
    encoding = "utf-8"

    def __init__(self, printed: list[str]) -> None:
        self.printed = printed

    def write(self, text: str) -> int:
        self.printed.append(text)
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


@pytest.fixture
def list_server(tmp_path: Path) -> Iterator[str]:
    """A server of a list of URLs, on loopback."""
    rows = [{"url": f"http://a.example/{n}.jpg", "caption": f"caption {n}"} for n in range(4)]
    folder = write(tmp_path / "www" / "list.parquet", rows).parent

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/list.parquet"
    server.shutdown()
    server.server_close()


def test_a_run_with_a_signed_list_stores_no_secret(tmp_path: Path, list_server: str) -> None:
    secret = "Zq8vKp2mX4rT"
    store = tmp_path / "store"
    signed = source(f"{list_server}?x=1&X-Amz-Signature={secret}")
    run(store, signed, fetch={"allow_hosts": ["127.0.0.1"]})
    assert table(store, "pairs").rows == 4
    files = [file for file in store.rglob("*") if file.is_file()]
    for file in files:
        assert secret.encode() not in file.read_bytes(), file
        if file.suffix == ".parquet":
            assert secret not in str(pq.read_table(file).to_pylist()), file
    assert len(files) > 3


def test_more_secrets_than_can_be_hidden_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(MAX_KNOWN):
        note_settings({"API_KEY": f"secret-{number:06d}"})
        if caplog.records:
            break
    last = f"secret-{number + 1:06d}"
    note_settings({"API_KEY": last})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "secret-000000" not in conceal("key secret-000000")
    assert last in conceal(f"key {last}")
    assert last not in conceal(f"https://host.example/list?api_key={last}")
