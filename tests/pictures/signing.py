"""Pictures with manifests of C2PA, signed with a certificate that is made here."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CAWG, OLD = "cawg.training-mining", "c2pa.training-mining"
FORBIDDEN = {"cawg.ai_training": {"use": "notAllowed"}}
_KINDS = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "gif": "GIF",
    "tiff": "TIFF",
    "avif": "AVIF",
}
KINDS = tuple(_KINDS)
"""Formats that Pillow writes and the library signs."""
_SETTINGS = {
    "verify": {"verify_after_sign": False, "verify_trust": False, "remote_manifest_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}


def assertion(entries: Any = FORBIDDEN, label: str = CAWG) -> dict[str, Any]:
    """An assertion with some entries."""
    return {"label": label, "data": {"entries": entries}}


def signed(
    content: bytes,
    kind: str = "jpeg",
    assertions: Sequence[dict[str, Any]] = (),
    parent: bytes | None = None,
    address: str | None = None,
) -> bytes:
    """A picture with a manifest.

    Args:
        content: the picture.
        kind: its format.
        assertions: what the manifest says.
        parent: the picture that it was made from, with its manifests.
        address: of the manifest, if it is on the web and not in the picture.
    """
    definition = {
        "claim_generator_info": [{"name": "tests", "version": "1"}],
        "format": f"image/{kind}",
        "title": "A picture",
        "assertions": list(assertions),
    }
    with (
        c2pa.Context.from_dict(_SETTINGS) as context,
        c2pa.Signer.from_info(_signer()) as signer,
        c2pa.Builder(definition, context) as builder,
    ):
        if parent is not None:
            relation = {"title": "Before", "relationship": "parentOf"}
            builder.add_ingredient(relation, f"image/{kind}", io.BytesIO(parent))
        if address is not None:
            builder.set_remote_url(address)
            builder.set_no_embed()
        out = io.BytesIO()
        builder.sign(signer, f"image/{kind}", io.BytesIO(content), out)
    return out.getvalue()


def _signer() -> c2pa.C2paSignerInfo:
    chain, key = _certificates()
    return c2pa.C2paSignerInfo("es256", chain, key, None)


@cache
def _certificates() -> tuple[bytes, bytes]:
    """A chain of two certificates and the key of the first one, as PEM."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name, name = _name("Root of tests"), _name("Signer of tests")
    root = (
        _certificate(root_name, root_name, root_key)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    signer = (
        _certificate(name, root_name, key)
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()),
            critical=False,
        )
        .sign(root_key, hashes.SHA256())
    )
    chain = signer.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM)
    return chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(text: str) -> x509.Name:
    parts = {NameOID.COUNTRY_NAME: "DE", NameOID.ORGANIZATION_NAME: "Tests"}
    parts[NameOID.COMMON_NAME] = text
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts.items()])


def _certificate(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    others = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("encipher_only", "decipher_only"),
        ),
        False,
    )
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        **others,
    )
