"""Addresses are shown and stored without their secrets."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.masking import has_secret, mask_address

SECRET = "S3CR3T"
WITH_SECRETS = {
    "https://b.example/l?X-Amz-Signature=S3CR3T&x=1": "https://b.example/l?X-Amz-Signature=***&x=1",
    "https://b.example/l?x=1&x-amz-security-token=S3CR3T": "https://b.example/l?x=1&x-amz-security-token=***",
    "https://b.example/l?X%2DAmz%2DSignature=S3CR3T": "https://b.example/l?X%2DAmz%2DSignature=***",
    "https://b.example/l?X-Goog-Signature=S3CR3T": "https://b.example/l?X-Goog-Signature=***",
    "https://b.example/l?Expires=1&Signature=S3CR3T&Key-Pair-Id=S3CR3T": (
        "https://b.example/l?Expires=1&Signature=***&Key-Pair-Id=***"
    ),
    "az://c/l?sv=S3CR3T&sp=S3CR3T&se=S3CR3T&sig=S3CR3T": "az://c/l?sv=***&sp=***&se=***&sig=***",
    "hf://datasets/x/l.txt?token=hf_S3CR3T": "hf://datasets/x/l.txt?token=***",
    "s3://AKIA:S3CR3T@b/l.txt": "s3://AKIA:***@b/l.txt",
    "s3://AKIA:a/S3CR3T+/b@b/l.txt": "s3://AKIA:***@b/l.txt",
    "http://S3CR3T@h.example/": "http://***@h.example/",
    "http://u:S3CR3T@h.example/a@2x.png": "http://***@h.example/a@2x.png",
    "http://u:p@S3CR3T@h.example/": "http://***@h.example/",
    "http://h.example/a;password=S3CR3T": "http://h.example/a;password=***",
    "http://h.example/?a=1;sig=S3CR3T": "http://h.example/?a=1;sig=***",
    "http://h.example/#access_token=S3CR3T": "http://h.example/#access_token=***",
    "http://h.example/?u=https%3A%2F%2Fb%3Fsig%3DS3CR3T": (
        "http://h.example/?u=https%3A%2F%2Fb%3Fsig%3D***"
    ),
    "http://web.example/2020/http://u:S3CR3T@h.example/a": (
        "http://web.example/2020/http://***@h.example/a"
    ),
    "http://a.example/x,http://u:S3CR3T@b.example:8/": "http://a.example/x,http://***@b.example:8/",
    "http://h.example:80/@a/s3://AKIA:S3CR3T@b/@c": "http://h.example:80/@a/s3://AKIA:***@b/@c",
    "?api_key=S3CR3T": "?api_key=***",
    "2 errors: 'http://u:S3CR3T@a/x' and \"s3://b/?secret_key=S3CR3T\".": (
        "2 errors: 'http://***@a/x' and \"s3://b/?secret_key=***\"."
    ),
}
WITHOUT_SECRETS = [
    "https://a.example/photo.jpg?w=640&h=480&author=me&page=2",
    "https://a.example:8080/a@2x.png",
    "https://a.example/@user/photo=1",
    "abfss://container@account.dfs.example/list",
    "s3://bucket/a=1/part-0.parquet?region=eu-west-1",
    "hf://datasets/user/name@main/list.txt",
    "Map key to a column of text, as in columns: {key: id}",
    "images@example.org",
    "",
]


@pytest.mark.parametrize("text", WITH_SECRETS)
def test_secrets_are_masked_and_the_rest_stays(text: str) -> None:
    assert mask_address(text) == WITH_SECRETS[text]
    assert has_secret(text)
    assert mask_address(mask_address(text)) == mask_address(text)


@pytest.mark.parametrize("text", WITHOUT_SECRETS)
def test_addresses_without_secrets_stay_as_they_are(text: str) -> None:
    assert mask_address(text) == text and not has_secret(text)


@given(
    st.sampled_from(["sig", "Signature", "X-Amz-Credential", "token", "API_KEY", "password"]),
    st.sampled_from(["?", "?a=1&", "?a=1;", "#"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="&#\"'<>")),
    st.integers(0, 2),
)
def test_no_value_of_a_credential_stays(name: str, before: str, noise: str, depth: int) -> None:
    address = f"https://a.example/x{before}{name}={SECRET}{noise}{SECRET}"
    for _ in range(depth):
        address = f"https://b.example/?u={quote(address, safe='')}"
    assert SECRET not in mask_address(f"It failed: {address} (500)")


@given(
    st.lists(
        st.from_regex(r"[a-z0-9.]{0,8}(:[0-9]{0,4})?/[a-z@,/:=]{0,9}", fullmatch=True), max_size=4
    ),
    st.sampled_from(["http", "https", "s3", "ftp", "hdfs"]),
    st.sampled_from(["/", "//", "\\", "/x@2x.png", "/http://c.example/@", ""]),
)
def test_no_password_stays_behind_other_addresses(
    places: list[str], scheme: str, after: str
) -> None:
    before = "".join(f"http://{place}" for place in places)
    assert SECRET not in mask_address(f"{before}{scheme}://user:{SECRET}@b.example{after}")


def test_long_texts_take_no_time() -> None:
    started = time.process_time()
    for part in ("http://", "http://a:", "@", "?a=", "=", "%253D", "a", "http://a@", "&sig=", "/?"):
        mask_address(part * 20_000)
        mask_address("http://" + part * 20_000 + "@")
        for before in ("@", "@ ", "a@ "):
            mask_address(before + part * 20_000)
            mask_address(before + "s3://" + part * 20_000 + "s3://a")
    assert time.process_time() - started < 5
