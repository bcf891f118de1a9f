"""Signs requests and verifies replies (RFC 9421, RFC 9530), written from the RFCs and independent of
the gateway's own code: a mistake would have to be in both."""

import base64
import hashlib
import json
import re
import secrets
import time
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

COVERED = '("@method" "@target-uri" "content-digest" "content-type")'
ANSWERED = (
    '("@status" "content-digest" "content-type" "@method";req "@target-uri";req '
    '"content-digest";req "signature";req;key="sig1")'
)


def digest(body: bytes) -> str:
    return "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":"


class Signer:
    """A private key and its id."""

    def __init__(self, folder: Path, key_id: str):
        self.key_id = key_id
        self.key = load_pem_private_key((folder / f"{key_id}.key").read_bytes(), password=None)

    def headers(self, method: str, target: str, media: str, body: bytes, nonce: str | None = None, created: int | None = None):
        """The three headers of a signed request, created now unless another time is given."""
        created = int(time.time()) if created is None else created
        nonce = nonce or secrets.token_urlsafe(16)
        params = f'{COVERED};created={created};expires={created + 120};nonce="{nonce}";keyid="{self.key_id}"'
        lines = {"@method": method, "@target-uri": target, "content-digest": digest(body), "content-type": media}
        base = "".join(f'"{name}": {value}\n' for name, value in lines.items())
        base += f'"@signature-params": {params}'
        signature = base64.b64encode(self.key.sign(base.encode())).decode()
        return {
            "Content-Digest": lines["content-digest"],
            "Signature-Input": f"sig1={params}",
            "Signature": f"sig1=:{signature}:",
        }


class Platform:
    """The gateway's published keys."""

    def __init__(self, jwks: bytes):
        self.keys = {}
        for key in json.loads(jwks)["keys"]:
            raw = base64.urlsafe_b64decode(key["x"] + "==")
            self.keys[key["kid"]] = Ed25519PublicKey.from_public_bytes(raw)

    def fault_of(self, question, status: int, headers, body: bytes) -> str | None:
        """The fault of a signed reply to a `requests.PreparedRequest`; None if it verifies."""
        received = headers.get("content-digest")
        if received != digest(body):
            return f"content-digest is {received}, the body's is {digest(body)}"
        found = re.fullmatch(r'sig1=(.*;created=(\d+);keyid="([^"]+)")', headers.get("signature-input", ""))
        if not found or not found[1].startswith(ANSWERED + ";"):
            return f"signature-input covers other components: {headers.get('signature-input')}"
        if abs(int(found[2]) - time.time()) > 60:
            return f"created {found[2]} is not now"
        key = self.keys.get(found[3])
        if key is None:
            return f"keyid {found[3]} is not published"
        request_headers = question.headers
        base = (
            f'"@status": {status}\n"content-digest": {received}\n"content-type": {headers.get("content-type")}\n'
            f'"@method";req: {question.method}\n"@target-uri";req: {question.url}\n'
            f'"content-digest";req: {request_headers["Content-Digest"]}\n'
            f'"signature";req;key="sig1": {request_headers["Signature"].removeprefix("sig1=")}\n'
            f'"@signature-params": {found[1]}'
        )
        signature = base64.b64decode(headers["signature"].removeprefix("sig1=:").removesuffix(":"))
        try:
            key.verify(signature, base.encode())
        except InvalidSignature:
            return "the signature does not verify over:\n" + base
        return None
