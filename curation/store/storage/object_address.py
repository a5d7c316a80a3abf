"""Addresses of object stores, and what they and the environment say about regions and credentials.

pyarrow and obstore each read the environment in their way. Here both get the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from curation.errors import Detail, StoreError, unknown
from curation.secrets import note_settings
from curation.store.storage.azure import SCHEMES as AZURE
from curation.store.storage.azure import azure_writer_settings
from curation.store.storage.google import SCHEMES as GOOGLE
from curation.store.storage.google import google_writer_settings

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

SCHEMES = ("s3", *GOOGLE, *AZURE)
OPTIONS = {"s3": ("region", "endpoint_override", "scheme", "allow_bucket_creation")}
"""Options that the query of an address may have, by scheme."""
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "abfs": "AZURE_STORAGE_ACCOUNT_KEY",
}
"""Variables of the environment that hold credentials, by scheme."""
_GOOGLE_FIX = "Unset it, and name the file of the credentials in GOOGLE_APPLICATION_CREDENTIALS"
_AZURE_FIX = "Unset it. AZURE_STORAGE_ENDPOINT names a server, and AZURE_STORAGE_ACCOUNT_KEY a key"
WRITER_VARIABLES = {
    "s3": {
        "AWS_ENDPOINT": "Unset it, and name the server in AWS_ENDPOINT_URL",
        "AWS_TOKEN": "Unset it, and set AWS_SESSION_TOKEN",
        "AWS_SKIP_SIGNATURE": "Unset it: a store is not written without credentials",
    },
    "gs": dict.fromkeys(
        (
            "GOOGLE_SERVICE_ACCOUNT",
            "GOOGLE_SERVICE_ACCOUNT_PATH",
            "GOOGLE_SERVICE_ACCOUNT_KEY",
            "GOOGLE_BEARER_TOKEN",
            "GOOGLE_BASE_URL",
            "GOOGLE_SKIP_SIGNATURE",
        ),
        _GOOGLE_FIX,
    ),
    "abfs": dict.fromkeys(
        ("AZURE_STORAGE_USE_EMULATOR", "AZURE_STORAGE_TOKEN", "AZURE_SKIP_SIGNATURE"), _AZURE_FIX
    ),
}
"""Variables that obstore reads and pyarrow does not, by scheme, and what to set instead. With them a
run would write to one server, or as one user, and read from another."""
KEYS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}
"""Settings of obstore, by their names in the files of AWS."""


def read_options(uri: str) -> dict[str, str]:
    """Return the options in the query of an address.

    Raises:
        StoreError: one is unknown or has no valid value, or the address has credentials or a fragment.
    """
    parts = urlsplit(uri)
    account = parts.scheme.startswith("abfs") and "@" in parts.netloc and ":" not in parts.netloc
    if "@" in parts.netloc and not account:
        place = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
        raise StoreError(
            f"The address of the store {place} must not have credentials, because addresses "
            "are printed",
            fix=f"Leave them out and set them in the environment: {CREDENTIALS[_family(parts.scheme)]}",
        )
    if parts.fragment:
        raise StoreError(
            f"The address of a store must not have a '#': {uri!r}",
            fix="Write %23 for one in a name",
        )
    valid = OPTIONS.get(parts.scheme, ())
    options = {n: v[-1] for n, v in parse_qs(parts.query, keep_blank_values=True).items()}
    address = parts._replace(query="").geturl()
    fix = "Leave it out; credentials belong in the environment"
    # Not with their values, which may be secrets.
    unknown_options = [
        unknown("option", name, valid, f"address of the store {address}", fix)
        for name in sorted(options.keys() - set(valid))
    ]
    if unknown_options:
        raise StoreError(*unknown_options)
    _check_values(uri, options)
    return options


def _family(scheme: str) -> str:
    return {"gcs": "gs", "abfss": "abfs"}.get(scheme, scheme)


def _check_values(uri: str, options: Mapping[str, str]) -> None:
    empty = [name for name, value in options.items() if not value]
    if empty:
        raise StoreError(
            f"The address {uri!r} has no value for {', '.join(empty)}",
            fix="Write NAME=VALUE",
        )
    if options.get("scheme", "https") not in ("http", "https"):
        raise StoreError(
            unknown("scheme", options["scheme"], ("http", "https"), f"address of the store {uri}")
        )


def writer_address(uri: str) -> str:
    """Return an address as obstore understands it: without options."""
    parts = urlsplit(uri)
    scheme = "gs" if parts.scheme == "gcs" else parts.scheme
    return parts._replace(scheme=scheme, query="").geturl().rstrip("/")


def writer_settings(scheme: str, options: Mapping[str, str], region: str | None) -> dict[str, Any]:
    """Return the settings of obstore that mean the same as the options do to pyarrow.

    Args:
        scheme: of the address.
        options: of the address.
        region: the region of the bucket, as pyarrow found out.

    Raises:
        StoreError: the profile that the environment names has no credentials that can be read, or a
            variable would steer writing alone.
    """
    _check_variables(scheme)
    if scheme in AZURE:
        return azure_writer_settings()
    if scheme in GOOGLE:
        return google_writer_settings()
    settings: dict[str, Any] = {"region": region} if region else {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if "endpoint_override" in options:
        endpoint = f"{options.get('scheme', 'https')}://{options['endpoint_override']}"
    if endpoint:
        settings["endpoint"] = endpoint
        settings["client_options"] = {"allow_http": endpoint.startswith("http://")}
    return settings | _credentials()


def _check_variables(scheme: str) -> None:
    for name, fix in WRITER_VARIABLES[_family(scheme)].items():
        if os.environ.get(name):
            message = "files would be written as it says, and read as if it were not there"
            raise StoreError(Detail(message, f"the variable {name}", fix=fix))


def _credentials() -> dict[str, Any]:
    """Return the credentials of a profile, if the environment has none; obstore reads no profiles."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return {}
    profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    keys = _keys_of_profile(profile or "default")
    if keys:
        return keys
    if find_spec("boto3"):
        return _boto3_credentials()
    if profile:
        raise StoreError(
            f"The AWS profile {profile!r} has no access key in {_aws_file('credentials')} or "
            f"{_aws_file('config')}",
            fix=(
                "For profiles that assume a role or sign on, install boto3, or set "
                f"{CREDENTIALS['s3']} and AWS_SESSION_TOKEN (aws configure export-credentials)"
            ),
        )
    return {}


def _keys_of_profile(profile: str) -> dict[str, str]:
    for name, section in (("credentials", profile), ("config", f"profile {profile}")):
        parser = ConfigParser(interpolation=None, strict=False, default_section="")
        try:
            parser.read(_aws_file(name), encoding="utf-8")
        except (ConfigError, UnicodeDecodeError) as error:
            message = f"{_aws_file(name)} cannot be read: {error}"
            raise StoreError(message, fix="Mend the file") from error
        section = "default" if section == "profile default" else section
        if parser.has_option(section, "aws_secret_access_key"):
            values = parser[section]
            keys = {setting: values[key] for key, setting in KEYS.items() if key in values}
            note_settings(keys)
            return keys
    return {}


def _aws_file(name: str) -> Path:
    variable = {"credentials": "AWS_SHARED_CREDENTIALS_FILE", "config": "AWS_CONFIG_FILE"}[name]
    return Path(os.environ.get(variable) or Path.home() / ".aws" / name)


def _boto3_credentials() -> dict[str, Any]:
    import boto3  # type: ignore[import-not-found,unused-ignore]
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = boto3.Session()
    if session.get_credentials() is None:
        return {}
    return {"credential_provider": Boto3CredentialProvider(session)}
