"""A merchant client for paymux, in Python: places orders, selects, queries, receives notifications.

    client.py place NUMBER AMOUNT MOBILE [ORDER-DATE]
    client.py select NUMBER INSTITUTION
    client.py query NUMBER
    client.py listen

Prints the body of a verified response on stdout. Exit status: 0 for 2xx (202: not known yet, query
again), 1 refused by the gateway or the institution, 2 invalid arguments, 3 not proven: no response,
or none with a valid signature of the gateway.
"""

import base64
import http.server
import json
import os
import re
import secrets
import ssl
import sys
import threading
import time
from concurrent.futures import Future
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from urllib.parse import urlsplit

import requests
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageSignaturesException,
    HTTPMessageVerifier,
    MappingKeyResolver,
    algorithms,
)

# The gateway's address, exactly its `public_origin`: it is part of what is signed.
GATEWAY = os.environ.get("PAYMUX", "https://localhost:8443")
ROOTS = os.environ.get("PAYMUX_ROOTS", "certs/ca.pem")
# Our identity. The client certificate is used if the file exists.
MERCHANT = os.environ.get("MERCHANT", "M1001")
NAME = os.environ.get("MERCHANT_NAME", "Tea House")
KEY = os.environ.get("MERCHANT_KEY", "certs/M1001-1.key")
KEY_ID = os.environ.get("MERCHANT_KEY_ID", "M1001-1")
CERTIFICATE = os.environ.get("MERCHANT_CERTIFICATE", "certs/M1001.pem")
CERTIFICATE_KEY = os.environ.get("MERCHANT_CERTIFICATE_KEY", "certs/M1001.key")
# Where we receive notifications, exactly as in bankReturnUrl: it is part of what is signed.
NOTICES = os.environ.get("NOTICES", "https://localhost:7443/notices")
NOTICES_CERTIFICATE = os.environ.get("NOTICES_CERTIFICATE", "certs/server.pem")
NOTICES_KEY = os.environ.get("NOTICES_KEY", "certs/server.key")
NOTICES_BOOK = os.environ.get("NOTICES_BOOK", "var/notices.txt")
# The orders we placed; notifications are compared with them.
ORDERS_BOOK = os.environ.get("ORDERS_BOOK", "var/orders.txt")
CURRENCY = "CNY"
# How long the gateway's keys are cached: a withdrawn key is trusted no longer than this. And the
# shortest time between two fetches because of an unknown key.
KEYS_OLD_S = int(os.environ.get("PAYMUX_KEYS_OLD_S", "600"))
KEYS_PAUSE_S = int(os.environ.get("PAYMUX_KEYS_PAUSE_S", "10"))

REQUEST_PARTS = ("@method", "@target-uri", "content-digest", "content-type")
ANSWER_PARTS = (
    "@status",
    "content-digest",
    "content-type",
    # These bind the response to our request: a response to another request is not accepted.
    '"@method";req',
    '"@target-uri";req',
    '"content-digest";req',
    '"signature";req;key="sig1"',
)
NOT_OLDER = timedelta(minutes=5)
WAITS = (1, 2, 4)  # seconds between attempts, unless the gateway sends Retry-After


class NotProven(Exception):
    """The message is not authenticated and must not be used."""


def kind(key):
    """The key determines the algorithm, never the message."""
    if isinstance(key, (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey)):
        return algorithms.ED25519
    if isinstance(key, (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)):
        return algorithms.ECDSA_P256_SHA256
    return algorithms.RSA_PSS_SHA512


def session():
    made = requests.Session()
    made.verify = ROOTS
    if os.path.exists(CERTIFICATE):
        made.cert = (CERTIFICATE, CERTIFICATE_KEY)
    return made


class PlatformKeys:
    """The gateway's public keys, fetched from the gateway and authenticated by TLS."""

    def __init__(self):
        self.keys, self.fetched, self.lock = {}, float("-inf"), threading.Lock()
        self.latest, self.tried = None, float("-inf")

    def find(self, key_id):
        with self.lock:
            young = time.monotonic() - self.fetched < KEYS_OLD_S
            jwk = self.keys.get(key_id) if young else None
        # An unknown id is a new key, or not the gateway's.
        jwk = jwk or self.look().get(key_id)
        if not jwk or not jwk["nbf"] <= time.time() <= jwk["exp"]:
            raise NotProven(f"the platform has no key '{key_id}' in force")
        return self.read(jwk)

    def look(self):
        """The current keys. They are not fetched for every message: a recent result is reused, and
        threads that arrive during a fetch wait for it. A cached key needs no waiting."""
        with self.lock:
            now = time.monotonic()
            looking = self.latest and not self.latest.done()
            mine = not looking and now - self.tried >= KEYS_PAUSE_S
            if mine:
                # Set before the fetch: a failed fetch counts as well.
                self.latest, self.tried = Future(), now
            latest = self.latest
        if mine:
            try:
                keys = self.fetch()
                with self.lock:
                    self.keys, self.fetched = keys, now
                latest.set_result(keys)
            except Exception as fault:
                latest.set_exception(NotProven(f"no keys: {fault}"))
        return latest.result()

    @staticmethod
    def fetch():
        # `verify` again: otherwise requests prefers REQUESTS_CA_BUNDLE to the session's setting.
        where = GATEWAY + "/.well-known/jwks.json"
        answer = session().get(where, timeout=10, verify=ROOTS, allow_redirects=False)
        if answer.status_code != 200:
            raise NotProven(f"HTTP {answer.status_code}")
        return {jwk["kid"]: jwk for jwk in answer.json()["keys"]}

    @staticmethod
    def read(jwk):
        def octets(name):
            return base64.urlsafe_b64decode(jwk[name] + "==")

        def number(name):
            return int.from_bytes(octets(name), "big")

        if jwk["kty"] == "OKP" and jwk["crv"] == "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(octets("x"))
        if jwk["kty"] == "EC" and jwk["crv"] == "P-256":
            numbers = ec.EllipticCurvePublicNumbers(number("x"), number("y"), ec.SECP256R1())
            return numbers.public_key()
        if jwk["kty"] == "RSA":
            return rsa.RSAPublicNumbers(number("e"), number("n")).public_key()
        raise NotProven(f"the platform's key '{jwk['kid']}' is of an unsupported type")


PLATFORM = PlatformKeys()


class Verifier(HTTPMessageVerifier):
    max_clock_skew = timedelta(seconds=30)


def verify(message, body, parts):
    """Verifies that the gateway signed the message, all these components of it, and this body."""
    # The key that the message names. The library gets only this key, so it checks the name too.
    claimed = re.search(r';keyid="([^"]*)"', message.headers.get("Signature-Input") or "")
    if not claimed:
        raise NotProven("the message is not signed")
    key = PLATFORM.find(claimed[1])
    verifier = Verifier(
        signature_algorithm=kind(key),
        key_resolver=MappingKeyResolver(public_keys={claimed[1]: key}, private_keys={}),
    )
    try:
        # Rejects several signatures, repeated components and a digest of another body.
        verifier.verify(message, require_components=parts, body=body, max_age=NOT_OLDER)
    except HTTPMessageSignaturesException as fault:
        raise NotProven(str(fault)) from fault


def signed(path, body):
    """A signed request. Sign again before each attempt: a nonce can be used only once."""
    with open(KEY, "rb") as file:
        key = load_pem_private_key(file.read(), None)
    request = requests.Request(
        "POST",
        GATEWAY + path,
        data=body,
        headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
    ).prepare()
    now = datetime.now(timezone.utc)
    HTTPMessageSigner(
        signature_algorithm=kind(key),
        key_resolver=MappingKeyResolver(public_keys={}, private_keys={KEY_ID: key}),
    ).sign(
        request,
        key_id=KEY_ID,
        created=now,
        expires=now + timedelta(minutes=2),
        nonce=secrets.token_urlsafe(24),
        label="sig1",
        include_alg=False,
        covered_component_ids=REQUEST_PARTS,
        body=body,  # adds Content-Digest over exactly the bytes that are sent
    )
    return request


def ask(path, fields):
    """Sends until there is a response: the same bytes each time, with a new signature."""
    body = json.dumps({"merchantId": MERCHANT, **fields}, ensure_ascii=False).encode()
    line = session()
    for wait in (*WAITS, None):
        try:
            answer = line.send(signed(path, body), timeout=(5, 20), allow_redirects=False)
        except requests.RequestException as fault:
            if wait is None:
                raise NotProven(f"no response: {fault}") from fault
        else:
            if wait is None or answer.status_code not in (429, 500, 503):
                return answer
            asked = answer.headers.get("Retry-After", "")
            wait = min(int(asked), 30) if asked.isdecimal() else wait
        time.sleep(wait)


def call(path, fields):
    answer = ask(path, fields)
    try:
        verify(answer, answer.content, ANSWER_PARTS)
    except NotProven as fault:
        # An error response to an unidentified caller is unsigned: show it, do not trust it.
        raise NotProven(f"{fault}; HTTP {answer.status_code}, body: {answer.text}") from fault
    sys.stdout.write(answer.text + "\n")
    if answer.status_code == 202:
        print("not known yet: query again", file=sys.stderr)
    said = answer.json()
    # A refusal by the institution is also a valid response.
    if answer.status_code == 200 and said.get("result") == "REFUSED":
        print("refused:", said.get("reason"), file=sys.stderr)
        return 1
    return 0 if answer.status_code < 300 else 1


def terms(number, amount, currency):
    """An order as one line; 12.3 and 12.30 are equal."""
    line = f"{number} {amount.rstrip('0').rstrip('.') if '.' in amount else amount} {currency}"
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,32} [0-9]+(\.[0-9]+)? [A-Z]{3}", line):
        raise ValueError("expected NUMBER AMOUNT, such as T1 12.30")
    return line


def remember(line):
    """Stores the order before it is placed. In production: your orders table."""
    os.makedirs(os.path.dirname(ORDERS_BOOK) or ".", exist_ok=True)
    with open(ORDERS_BOOK, "a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def is_ours(event):
    """Whether we placed this order, for this amount in this currency."""
    if event["merchantId"] != MERCHANT:
        return False
    line = terms(event["merchantOrderNo"], event["orderAmount"], event["currency"])
    with open(ORDERS_BOOK, encoding="utf-8") as file:
        return line in file.read().split("\n")


def place(number, amount, mobile, date=None):
    # The date is part of the order: store it, a repeat must send the same date.
    today = datetime.now(timezone(timedelta(hours=8))).strftime("%Y%m%d")
    remember(terms(number, amount, CURRENCY))
    return call(
        "/v1/orders",
        {
            "transactionType": "PASSWORD_PAY",
            "businessType": "AGGREGATED",
            "bankReturnUrl": NOTICES,
            "merchantOrderNo": number,
            "merchantName": NAME,
            "orderDate": date or today,
            "orderAmount": amount,
            "currency": CURRENCY,
            "mobileNo": mobile,
            "goodsName": "明前龙井",
        },
    )


def select(number, institution):
    fields = {"merchantOrderNo": number, "institutionId": institution, "mode": "WEBVIEW"}
    return call("/v1/orders/select", fields)


def query(number):
    return call("/v1/orders/query", {"merchantOrderNo": number})


class Book:
    """Records each event once. In production: one database transaction for the event's id and for
    its effect."""

    def __init__(self, path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self.file, self.lock = open(path, "a+", encoding="utf-8"), threading.Lock()
        self.file.seek(0)
        self.seen = {line.split()[0] for line in self.file}

    def enter(self, event):
        names = (
            "eventId", "eventType", "merchantOrderNo", "orderAmount", "currency", "orderStatus",
        )
        with self.lock:
            if event["eventId"] in self.seen:
                return "repeated"
            self.file.write(" ".join(event[name] for name in names) + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())
            self.seen.add(event["eventId"])
            return "heard"


class Hearing(http.server.BaseHTTPRequestHandler):
    timeout = 10  # seconds a sender has for its request
    book = None

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        body = self.rfile.read(min(int(length), 65536) if length.isdecimal() else 0)
        # Not the Host header: a notification for another merchant must not be accepted here.
        request = SimpleNamespace(method="POST", url=NOTICES, headers=self.headers)
        try:
            notices = urlsplit(NOTICES)
            if self.path != (notices.path or "/") + ("?" + notices.query if notices.query else ""):
                raise NotProven(f"no notifications are accepted at {self.path}")
            verify(request, body, REQUEST_PARTS)
            event = json.loads(body)
            if not is_ours(event):
                raise NotProven("not our order, or another amount or currency")
            print(self.book.enter(event), event["eventId"], flush=True)
        except (NotProven, OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
            print("refused:", fault, file=sys.stderr, flush=True)
            self.reply(401, "FAILURE")
        else:
            # Only after it is stored durably.
            self.reply(200, "SUCCESS")

    def reply(self, status, word):
        body = json.dumps({"noticeResult": word}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def listen():
    Hearing.book = Book(NOTICES_BOOK)
    address = urlsplit(NOTICES)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", address.port or 443), Hearing)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(NOTICES_CERTIFICATE, NOTICES_KEY)
    # The connection's own thread does the handshake, so that a slow one delays nobody else.
    server.socket = tls.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    print(f"listening at {NOTICES}", flush=True)
    server.serve_forever()
    return 0


def main(words):
    deeds = {
        "place": (place, 3, 4),
        "select": (select, 2, 2),
        "query": (query, 1, 1),
        "listen": (listen, 0, 0),
    }
    deed, least, most = deeds.get(words[0] if words else "", (None, 0, 0))
    if not deed or not least <= len(words) - 1 <= most:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return deed(*words[1:])
    except (NotProven, OSError, ValueError, KeyError) as fault:
        print("not proven:", fault, file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
