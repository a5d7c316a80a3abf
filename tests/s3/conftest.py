"""A real S3 server on loopback; tests are skipped where it cannot start."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from benchmarks.object_store.proxy import Proxy, proxying
from benchmarks.object_store.server import UnavailableError, address, credentials, serving

from .azurite import azure_address, serving_azure


@pytest.fixture(scope="session")
def server() -> Iterator[int]:
    """The port of the server, with its credentials in the environment."""
    try:
        with serving() as port, credentials():
            yield port
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def session_proxy(server: int) -> Iterator[Proxy]:
    """The one proxy of a process."""
    with proxying(server) as proxy:
        yield proxy


@pytest.fixture
def proxy(session_proxy: Proxy) -> Iterator[Proxy]:
    """A proxy before the server, without faults."""
    session_proxy.reset()
    yield session_proxy
    session_proxy.reset()


@pytest.fixture
def new_address(proxy: Proxy) -> Callable[[], str]:
    """Returns addresses of empty stores behind the proxy."""
    return lambda: address(proxy.port, f"store-{uuid.uuid4().hex[:8]}")


@pytest.fixture(scope="session")
def azure_variables() -> Iterator[dict[str, str]]:
    """An emulator of Azure, and the variables with which it is reached."""
    try:
        with serving_azure() as variables:
            yield variables
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def new_azure_address(
    azure_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], str]:
    """Returns addresses of empty stores on Azure."""
    for name, value in azure_variables.items():
        monkeypatch.setenv(name, value)
    return azure_address
