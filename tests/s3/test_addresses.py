"""Addresses of object stores: options, credentials, regions, and paths that are joined to them."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest

from benchmarks.object_store.proxy import Proxy
from benchmarks.object_store.server import BUCKET, ENVIRONMENT, HOST, KEY, REGION, SECRET
from curation.engine.table import open_table
from curation.errors import StoreError
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.store.storage.base import join_address
from curation.store.storage.object_address import WRITER_VARIABLES, writer_settings
from curation.store.storage.open import open_storage
from curation.store.store import Store

from ..ingest.helpers import jpeg, write
from ..workers import Recording


def options(port: int) -> list[str]:
    """The options of an address, one by one."""
    return ["scheme=http", f"endpoint_override={HOST}:{port}", f"region={REGION}"]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_options_may_come_in_any_order(
    proxy: Proxy, tmp_path: Path, order: tuple[int, ...]
) -> None:
    """Wherever a path is joined to the address: also where images are fetched to."""
    query = "&".join(options(proxy.port)[place] for place in order)
    store = Store(f"s3://{BUCKET}/order-{''.join(map(str, order))}-%C3%A4%2041?{query}")
    blocked = tmp_path / "blocked.txt"
    blocked.write_text("blocked.example\n")
    rows = [{"k": f"k{n}", "img": jpeg(n, (32 + n, 24))} for n in range(4)]
    source = {"name": "web", "role": "pool", "format": "parquet"}
    source |= {"path": str(write(tmp_path / "l.parquet", rows))}
    recipe = parse_recipe(
        {
            "name": "t",
            "ingest": {"rows_per_fragment": 2, "blocked_domains": str(blocked)},
            "sources": [source | {"columns": {"image": "img", "key": "k"}}],
        }
    )
    for step in plan(recipe, until="fetch"):
        run_step(step, pickle.loads(pickle.dumps(store)), Recording())
    images = open_table(store, "images")
    widths = {r["source_key"]: r["original_width"] for r in images.read().to_pylist()}
    assert widths == {f"k{n}": 32 + n for n in range(4)}
    assert {path.partition("/")[0] for path in store.storage.files("", recursive=True)} == {
        "open",
        "runs",
        "steps",
        "tables",
        "work",
    }
    for path in images.paths():
        place, _, parts = path.partition("?")
        assert place.startswith(f"s3://{BUCKET}/order-")
        assert parts == query


def test_an_address_names_the_same_objects_to_all_that_open_it(proxy: Proxy) -> None:
    query = "&".join(options(proxy.port))
    for name in ("plain", "a%20b", "%C3%A4", "a+b", "k=v", "a%2520b", "deep/er"):
        store = Store(f"s3://{BUCKET}/{name}/?{query}")
        store.storage.write("x/y z%.txt", b"1")
        filesystem, root = store.storage.filesystem, store.storage.root
        with filesystem.open_input_file(f"{root}/x/y z%.txt") as stream:
            assert stream.read() == b"1"
        inner = open_storage(store.address("x"))
        assert list(inner.files("")) == ["y z%.txt"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "s3://bucket/p?regoin=x",
            r"unknown option 'regoin' \(did you mean 'region'\?\). Valid: reg",
        ),
        ("s3://bucket/p?access_key=abc", "unknown option 'access_key'"),
        ("gs://bucket/p?endpoint_override=x", "'endpoint_override'; there is none"),
        ("gcs://bucket/p?project=x", "project"),
        ("abfs://c@a.dfs.core.windows.net/p?tls=1", "'tls'; there is none"),
        ("s3://bucket/p?region=", "no value for region"),
        ("s3://bucket/p?region=x&scheme=ftp", "'ftp'. Valid: http, https"),
        ("s3://bucket/p#part", "must not have a '#'"),
        ("gs://bucket/p#part", "must not have a '#'"),
        ("abfs://c@a.dfs.core.windows.net/p#part", "must not have a '#'"),
        ("s3://key:abc@bucket/p", "must not have credentials.*AWS_ACCESS_KEY_ID"),
        ("gs://abc@bucket/p", "must not have credentials.*GOOGLE_APPLICATION_CREDENTIALS"),
        ("gcs://abc@bucket/p", "must not have credentials.*GOOGLE_APPLICATION_CREDENTIALS"),
        ("abfs://c:abc@a.dfs.core.windows.net/p", "must not have credentials.*AZURE_STORAGE"),
        ("abfss://:abc@a.dfs.core.windows.net/p", "must not have credentials.*AZURE_STORAGE"),
        ("abfs://container/p", "Cannot open the store"),
        ("s3://", "Cannot open the store"),
        ("file://data/birds", r"names the machine 'data'. Write file:///data/birds"),
        ("file:///data/birds?x=1", r"has a '\?' or a '#'"),
        ("file:///data/birds#1", "Write %3F or %23"),
        ("s3:/bucket/p", "has one slash after s3:. Write s3://"),
        (Path("gs://bucket/p"), "not as a Path"),
        (Path("file:///data/p"), "not as a Path"),
    ],
)
def test_what_an_address_must_not_have_is_refused_at_once(
    address: str | Path, message: str
) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        Store(address)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize("value", ["http://127.0.0.1:1", "secret-value"])
@pytest.mark.parametrize(
    ("scheme", "name"),
    [(scheme, name) for scheme, names in WRITER_VARIABLES.items() for name in names],
)
def test_a_variable_that_only_what_writes_would_read_is_refused(
    scheme: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(
        StoreError, match=rf"variable {name}: files would be.*\. Unset it"
    ) as refused:
        writer_settings(scheme, {}, None)
    assert "secret-value" not in str(refused.value)


@pytest.mark.parametrize("address", ["gs://bucket/p", "gcs://bucket/p"])
def test_other_object_stores_open(address: str) -> None:
    store = Store(address)
    assert store.storage.root == "bucket/p"
    assert store.address("tables/x") == f"{address}/tables/x"


@pytest.mark.parametrize(
    ("address", "folder"),
    [
        ("file://{}/a b", "a b"),
        ("FILE://{}/x", "x"),
        ("file://localhost{}/x/../y", "y"),
        ("file://{}/50%25%23%3F", "50%#?"),
        ("{}/a?b#c%20", "a?b#c%20"),
    ],
)
def test_addresses_of_files_name_their_folders(tmp_path: Path, address: str, folder: str) -> None:
    store = Store(address.format(tmp_path))
    assert store.uri == str(tmp_path / folder)
    store.storage.write("a/b", b"1")
    assert (tmp_path / folder / "a" / "b").read_bytes() == b"1"


def test_the_scheme_may_be_written_in_capitals() -> None:
    assert Store("S3://bucket/p?region=eu-west-1").uri == "s3://bucket/p?region=eu-west-1"


TRY = """
import sys
from curation.store.store import Store
store = Store(sys.argv[1])
store.storage.write("a/b", b"1")
with store.storage.filesystem.open_input_file(f"{store.storage.root}/a/b") as stream:
    print(stream.read().decode())
"""


def try_out(address: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Write and read in a process that has no other variables of AWS."""
    plain = {n: v for n, v in os.environ.items() if not n.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-c", TRY, address],
        env=plain | {"AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


KEYS = f"aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"


@pytest.mark.parametrize("kind", ["environment", "default", "empty", "profile", "config"])
def test_credentials_serve_readers_and_writers(proxy: Proxy, tmp_path: Path, kind: str) -> None:
    """Keys in the environment or in a profile of AWS: pyarrow and obstore use the same.

    Compose files set a variable that is not known to an empty text.
    """
    files = {
        "AWS_SHARED_CREDENTIALS_FILE": tmp_path / "credentials",
        "AWS_CONFIG_FILE": tmp_path / "config",
    }
    for path in files.values():
        path.write_text("")
    environment = {name: str(path) for name, path in files.items()}
    if kind == "environment":
        environment |= ENVIRONMENT
    elif kind in ("default", "empty"):
        files["AWS_SHARED_CREDENTIALS_FILE"].write_text(f"[default]\n{KEYS}")
        environment |= dict.fromkeys(ENVIRONMENT, "") if kind == "empty" else {}
    elif kind == "profile":
        files["AWS_SHARED_CREDENTIALS_FILE"].write_text(
            f"[other]\n{KEYS.replace(SECRET, 'x')}[mine]\n{KEYS}"
        )
        environment["AWS_PROFILE"] = "mine"
    else:
        files["AWS_CONFIG_FILE"].write_text(f"[profile mine]\nregion = eu-north-1\n{KEYS}")
        environment["AWS_PROFILE"] = "mine"
    query = "&".join(options(proxy.port))
    tried = try_out(f"s3://{BUCKET}/credentials-{kind}?{query}", environment)
    assert (tried.returncode, tried.stdout) == (0, "1\n"), tried.stderr


def test_an_endpoint_of_the_environment_serves_readers_and_writers(proxy: Proxy) -> None:
    environment = ENVIRONMENT | {"AWS_ENDPOINT_URL": f"http://{HOST}:{proxy.port}"}
    tried = try_out(f"s3://{BUCKET}/endpoint?region={REGION}", environment)
    assert (tried.returncode, tried.stdout) == (0, "1\n"), tried.stderr
    assert {request.path for request in proxy.requests} == {"endpoint/a/b"}


def test_a_profile_without_keys_is_an_error_that_says_what_to_do(
    proxy: Proxy, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[profile mine]\nsso_session = x\n")
    environment = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_PROFILE": "mine"}
    tried = try_out(f"s3://{BUCKET}/p?{'&'.join(options(proxy.port))}", environment)
    assert "The AWS profile 'mine' has no access key in" in tried.stderr
    assert "install boto3" in tried.stderr


def test_no_code_joins_a_path_to_an_address_by_hand(root: Path) -> None:
    """Options of an address must stay at its end: `join_address` alone puts a path into one."""
    assert join_address("s3://b/p?x=1", "a/b") == "s3://b/p/a/b?x=1"
    joined = []
    for path in (root / "curation").rglob("*.py"):
        if path.name == "base.py" and path.parent.name == "storage":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr) and _joins(node):
                joined.append(f"{path.relative_to(root)}:{node.lineno}")
    assert joined == []


def _joins(node: ast.JoinedStr) -> bool:
    """Whether an f-string has an address that a slash follows."""
    for value, after in zip(node.values, node.values[1:], strict=False):
        follows = isinstance(after, ast.Constant) and str(after.value).startswith("/")
        if isinstance(value, ast.FormattedValue) and follows:
            name = ast.unparse(value.value).lower()
            if name.endswith(("uri", "address")) or name in ("store", "self.store"):
                return True
    return False


def test_a_refused_request_is_an_error_and_not_a_store_without_conditions(
    new_address: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong credentials must not make a run go on as on a store that keeps no conditions."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = Store(new_address())
    for request in (
        lambda: store.storage.can_create_exclusively,
        lambda: store.storage.read("a"),
        lambda: store.storage.files("a"),
        lambda: store.storage.write("a", b"x"),
        lambda: stream(store),
    ):
        with pytest.raises(StoreError, match=r"did not answer a request .* Check its address"):
            request()


def stream(store: Store) -> None:
    """Write a file in a stream."""
    with store.storage.open_output("a") as out:
        out.write(b"x" * 100)
