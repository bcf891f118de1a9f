"""What the fuzzer does not know by itself: how requests are signed, which orders exist, and what is
promised of every reply beyond its shape.

Most requests are signed correctly. Each of the others is signed wrongly in one way, and must then be
refused for that reason."""

import atexit
import json
import os
import random
import re
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import requests
import schemathesis
import yaml
from signing import Platform, Signer

ORIGIN = os.environ["PAYMUX_ORIGIN"]
FOLDER = Path(os.environ["PAYMUX_CERTS"])
NOTICE_URL = os.environ["PAYMUX_NOTICE_URL"]
BOOKS_URL = os.environ["PAYMUX_BOOKS_URL"]
DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
CODES = {
    code: int(name.removeprefix("Problem"))
    for name, schema in SCHEMAS.items()
    if re.fullmatch(r"Problem\d{3}", name)
    for code in schema["allOf"][1]["properties"]["code"]["enum"]
}
# Codes of replies to institutions, in their dialect.
DIALECT_CODES = set(SCHEMAS["CallbackProblem"]["properties"]["code"]["enum"])
# Answered before authentication, so unsigned even to a caller who signed correctly.
BEFORE_PROOF = {
    *("too_often", "path_unknown", "method_wrong", "media_type_wrong", "authority_wrong", "head_too_large"),
    *("body_unreadable", "body_too_large", "field_duplicate", "too_slow", "unavailable"),
}
MERCHANT, NAME, INSTITUTION = "M1001", "Tea House", "bluebank"
# The merchants' interfaces.
MERCHANTS = ("/v1/orders", "/v1/refunds", "/v1/events")
INSTITUTIONS = ["bluebank", "redpay", "greencard"]
# Amounts with which a sandbox institution refuses a refund, and with which its reply is lost.
ENDINGS = {"FAILED": "0.92", "PROCESSING": "0.63"}

dice = random.Random(int(os.environ["PAYMUX_SEED"]))
merchant = Signer(FOLDER, f"{MERCHANT}-1")
institution = Signer(FOLDER, f"{INSTITUTION}-1")
# Enrolled for another merchant: a known key that authenticates the wrong caller.
other = Signer(FOLDER, "M2002-1")
session = requests.Session()
session.trust_env = False
session.verify = str(FOLDER / "ca.pem")
CERTIFICATE = (str(FOLDER / f"{MERCHANT}.pem"), str(FOLDER / f"{MERCHANT}.key"))
platform = Platform(session.get(f"{ORIGIN}/.well-known/jwks.json").content)

# The code for each way to sign wrongly. `other` is a merchant, but not the one in the request.
WRONG = {
    "unsigned": {"signature_unusable"},
    "changed": {"digest_mismatch"},
    "garbled": {"signature_mismatch"},
    "unknown_key": {"key_unknown"},
    "stale": {"outside_window"},
}
WAYS = [*WRONG, "other", "replayed"]
# Far outside every window that can be configured, on both sides. Unit: seconds.
STALE_S = [-86_400, 86_400]


class Ways:
    """For each kind of object, draws every way to sign wrongly before repeating one, so that none is missed."""

    def __init__(self):
        self.left = {}

    def draw(self, path: str) -> str:
        left = self.left.setdefault(path.split("/")[2], [])
        if not left:
            left.extend(dice.sample(WAYS, len(WAYS)))
        return left.pop()


ways = Ways()


class Signed(requests.auth.AuthBase):
    """Signs the bytes that are sent, correctly or wrongly, and records which."""

    def __init__(self, signer: Signer, without: str | None):
        self.signer, self.without = signer, without

    def __call__(self, request):
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        wrongly = self.without is None and dice.random() < (0.25 if self.signer is merchant else 0.4)
        how = ways.draw(request.path_url) if wrongly else "well"
        request.how = how
        if how == "unsigned":
            for name in ("Signature", "Signature-Input", "Content-Digest"):
                request.headers.pop(name, None)
            return request
        signer = other if how == "other" else self.signer
        media = request.headers.get("Content-Type", "")
        media = media.decode() if isinstance(media, bytes) else media
        nonce = "once-and-never-again" if how == "replayed" else None
        created = int(time.time()) + (dice.choice(STALE_S) if how == "stale" else 0)
        made = signer.headers(request.method, request.url, media, body, nonce, created)
        if how == "changed":
            # The same JSON as before: only the digest differs.
            request.body = body + b" "
        elif how == "garbled":
            made["Signature"] = made["Signature"][:9] + ("A" if made["Signature"][9] != "A" else "B") + made["Signature"][10:]
        elif how == "unknown_key":
            made["Signature-Input"] = made["Signature-Input"].replace(signer.key_id, "nobody-1")
        request.headers.update(made)
        if self.without:
            request.how = "unsigned"
            request.headers = requests.structures.CaseInsensitiveDict(
                {name: value for name, value in request.headers.items() if name.lower() != self.without.lower()}
            )
        return request


def ask(path: str, body: dict, signer: Signer = merchant) -> requests.Response:
    raw = json.dumps(body).encode()
    media = "application/json"
    headers = {"Content-Type": media, **signer.headers("POST", ORIGIN + path, media, raw)}
    return session.post(ORIGIN + path, data=raw, headers=headers, cert=CERTIFICATE)


def order(number: str, **more) -> dict:
    return {
        "transactionType": "PASSWORD_PAY",
        "businessType": "WEBVIEW",
        "bankReturnUrl": NOTICE_URL,
        "merchantOrderNo": number,
        "merchantName": NAME,
        "orderDate": "20261126",
        "orderAmount": "12.30",
        "merchantId": MERCHANT,
        "mobileNo": "13800001234",
        **more,
    }


class Orders:
    """Existing orders, so that queries find some."""

    def __init__(self):
        self.known, self.tokens = [], []
        for at in range(12):
            kind = ["WEBVIEW", "AGGREGATED", "NATIVE"][at % 3]
            more = {"institutionId": INSTITUTION} if at % 2 and kind == "WEBVIEW" else {}
            self.place(order(f"seed-{at}", businessType=kind, **more))
        book = session.get(BOOKS_URL).json()
        self.attempts = book["payments"]
        self.paid, self.refunds, self.made = [], [], set()
        # Refund states that no refund has reached yet.
        self.unseen = dict(ENDINGS)
        for at in range(6):
            self.pay(f"paid-{at}")

    def place(self, body: dict):
        answer = ask("/v1/orders", body)
        assert answer.status_code == 200, answer.text
        self.learn(answer.json(), body)

    def pay(self, number: str):
        """Places an order and pays it: its payer presses the institution's button."""
        placed = ask("/v1/orders", order(number, orderAmount="9000.00", institutionId=INSTITUTION))
        assert placed.status_code == 200, placed.text
        there = session.post(placed.json()["payUrl"], data={"institutionId": INSTITUTION})
        assert there.status_code == 200, there.text
        pressed = session.post(there.url, data={"outcome": "pay"})
        assert pressed.status_code == 200, pressed.text
        until = time.monotonic() + 30
        while ask("/v1/orders/query", {"merchantId": MERCHANT, "merchantOrderNo": number}).json()["orderStatus"] != "PAID":
            assert time.monotonic() < until, f"{number} was paid, and no query shows it"
            time.sleep(0.05)
        self.paid.append(number)

    def learn(self, reply: dict, request: dict):
        entry = {key: reply[key] for key in ("payOrderNo", "merchantOrderNo", "createDate")}
        self.known.append(entry | {"mobileNo": str(request["mobileNo"]), "businessType": request["businessType"]})
        del self.known[:-40]
        if reply.get("payUrl", "").startswith(f"{ORIGIN}/pay/"):
            self.tokens.append(reply["payUrl"].removeprefix(f"{ORIGIN}/pay/"))
            del self.tokens[:-20]


orders = Orders()
replays = set()
# How often each interface gave each reply to each kind of caller: shows that a run tested something.
tally = Counter()
atexit.register(lambda: Path(os.environ["PAYMUX_TALLY"]).write_text(json.dumps(sorted(tally.items()))))


def is_name(value) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,32}", value) is not None


def fitted(path: str, body: dict, positive: bool) -> dict:
    """The body as a merchant of this gateway would send it; what was made invalid stays invalid."""
    body = dict(body)
    if is_name(body.get("merchantId")) and dice.random() < 0.95:
        body["merchantId"] = MERCHANT
    if not positive:
        return body
    # A schema cannot require that a number is written without a point; the document's text does.
    for name in ("mobileNo", "expireMinutes", "afterSequence", "limit"):
        if isinstance(body.get(name), float) and body[name].is_integer():
            body[name] = int(body[name])
    if is_name(body.get("institutionId")) and dice.random() < 0.9:
        body["institutionId"] = dice.choice(INSTITUTIONS)
    if path == "/v1/refunds":
        return refunding(body)
    if path == "/v1/refunds/query":
        if orders.refunds and dice.random() < 0.9:
            known = dice.choice(orders.refunds)
            body.update({key: known[key] for key in known if isinstance(body.get(key), str)})
        return body
    if path == "/v1/events":
        return body
    if path == "/v1/orders":
        if dice.random() < 0.9:
            body["merchantName"], body["bankReturnUrl"] = NAME, NOTICE_URL
        # Amounts that end in certain cents make a sandbox institution fail, in some cases slowly.
        if dice.random() < 0.9:
            body["orderAmount"] = dice.choice(["12.30", 12.3, "0.01", "1999.99", 8, "50000.00"])
        if dice.random() < 0.5:
            body["currency"] = dice.choice(["CNY", None])
        if dice.random() < 0.8:
            body["merchantOrderNo"] = f"F{dice.getrandbits(64):x}"
    elif dice.random() < 0.9:
        # A request for an order that earlier requests closed or selected for tests little.
        if path != "/v1/orders/query" and dice.random() < 0.5:
            orders.place(order(f"S{dice.getrandbits(64):x}", businessType="AGGREGATED"))
            known = orders.known[-1]
        else:
            known = dice.choice(orders.known)
        body.update({key: known[key] for key in known if body.get(key) is not None})
        # An order of one mode accepts no other, which no schema says.
        if known["businessType"] != "AGGREGATED" and body.get("mode") is not None:
            body["mode"] = known["businessType"]
    return body


def refunding(body: dict) -> dict:
    """The body as the merchant would send it: mostly about a paid order of its own."""
    if dice.random() < 0.9:
        body |= {"merchantOrderNo": dice.choice(orders.paid), "orderDate": "20261126", "mobileNo": "13800001234"}
    if dice.random() < 0.9:
        # Most succeed at once. States that no refund has reached yet come first.
        sums = list(orders.unseen.values()) or ["0.01", 0.02, "1", 2.5, "3.00", *ENDINGS.values()]
        body["refundAmount"] = dice.choice(sums)
    if body.get("noticeUrl") is not None and dice.random() < 0.9:
        body["noticeUrl"] = NOTICE_URL
    if body.get("merchantRefundNo") is not None and dice.random() < 0.8:
        body["merchantRefundNo"] = f"B{dice.getrandbits(64):x}"
    return body


def notice(body: dict) -> dict:
    """The body as the institution would send it: about an order of ours there, mostly that it is paid."""
    attempt = dice.choice(orders.attempts)
    body = body | {key: attempt[key] for key in ("merchantOrderNo", "merchantId", "orderAmount", "payOrderNo")}
    if dice.random() < 0.9:
        # Its dates are in China Standard Time.
        date, at = time.strftime("%Y%m%d %H%M%S", time.gmtime(time.time() + 8 * 3600)).split()
        paid = {"orderStatus": "PAID", "eventType": "ORDER_PAID", "currency": "CNY"}
        body |= paid | {"paymentDate": date, "paymentTime": at}
    return body


def signer_of(path: str) -> Signer | None:
    if path.startswith("/v1/callbacks/"):
        return institution
    return merchant if path.startswith(MERCHANTS) else None


@schemathesis.hook
def before_call(context, case, kwargs):
    path = case.operation.path
    meta = case.meta
    negative = lambda place: meta is not None and meta.is_negative_at(place)  # noqa: E731
    place = schemathesis.core.parameters.ParameterLocation
    if isinstance(case.body, dict) and path.startswith(MERCHANTS):
        case.body = fitted(path, case.body, not negative(place.BODY))
    if case.path_parameters and not negative(place.PATH) and dice.random() < 0.85:
        if "token" in case.path_parameters and orders.tokens:
            case.path_parameters["token"] = dice.choice(orders.tokens)
        if "institution" in case.path_parameters:
            case.path_parameters["institution"] = INSTITUTION
            if isinstance(case.body, dict) and not negative(place.BODY) and dice.random() < 0.85:
                case.body = notice(case.body)
    data = meta.phase.data if meta is not None else None
    scenario = getattr(data, "scenario", None)
    missing = data.parameter if scenario == "missing_parameter" and data.parameter_location == place.HEADER else None
    signer = signer_of(path)
    if signer and case.method.upper() == "POST" and not negative(place.HEADER):
        kwargs["auth"] = Signed(signer, missing)
    elif signer and missing:
        kwargs["auth"] = Signed(signer, missing)
    if signer is merchant:
        kwargs["cert"] = CERTIFICATE


@schemathesis.deserializer("text/html")
def html(context, response):
    return response.content.decode()


@schemathesis.hook
def after_call(context, case, response):
    how = getattr(response.request, "how", "plain")
    outcome = json_body(response).get("code") or json_body(response).get("result") or ""
    valid = "valid" if case.meta is None or case.meta.generation.mode.is_positive else "invalid"
    if case.operation.path == "/v1/refunds" and response.status_code in (200, 202):
        refund = response.json()
        if refund["refundOrderNo"] not in orders.made:
            orders.made.add(refund["refundOrderNo"])
            outcome = refund["refundStatus"]
            orders.unseen.pop(outcome, None)
        orders.refunds.append({key: refund[key] for key in ("refundOrderNo", "merchantRefundNo")})
        del orders.refunds[:-40]
    tally[f"{case.operation.label} {how} {valid} {response.status_code} {outcome}".rstrip()] += 1
    if case.operation.path == "/v1/orders" and response.status_code in (200, 202) and isinstance(case.body, dict):
        orders.learn(response.json(), case.body)


def json_body(response) -> dict:
    """The body, if it is a JSON object; else an empty one."""
    media = (response.headers.get("content-type") or [""])[0]
    try:
        value = json.loads(response.content) if media.startswith("application/") and "json" in media else {}
    except ValueError:
        value = {}
    return value if isinstance(value, dict) else {}


def flat(headers) -> dict:
    return {name.lower(): values[0] for name, values in headers.items()}


@schemathesis.check
def wrongly_signed_requests_are_refused(ctx, response, case):
    """Q1, Q2, C1: a wrongly signed request, of a merchant or an institution, is refused for that reason and has no effect."""
    how = getattr(response.request, "how", None)
    if how in (None, "well", "replayed"):
        return
    assert response.status_code >= 400, f"signed {how}, and answered {response.status_code}"
    reply = json_body(response)
    assert reply.get("noticeResult") != "SUCCESS", f"signed {how}, and acknowledged"
    if case.operation.path.startswith("/v1/callbacks/"):
        assert "signature" not in response.headers, f"signed {how}, and answered with a signature"
    if how in WRONG and case.operation.path.startswith(MERCHANTS) and response.request.method == "POST":
        assert reply.get("code") in WRONG[how] | BEFORE_PROOF, f"signed {how}, and refused for {reply}"


@schemathesis.check
def authenticated_callers_get_signed_replies(ctx, response, case):
    """R-6.3.1-1b: authenticated callers get signed replies, others do not."""
    path = case.operation.path
    how = getattr(response.request, "how", None)
    if how is None or not path.startswith(MERCHANTS) or response.request.method != "POST":
        return
    code = json_body(response).get("code")
    # A reply to a stale request is signed all the same.
    if how in ("well", "stale") and (response.status_code < 400 or code not in BEFORE_PROOF):
        wrong = platform.fault_of(response.request, response.status_code, flat(response.headers), response.content)
        assert wrong is None, f"signed {how} and answered {response.status_code} {code}: {wrong}"
    # The second of two requests under one nonce is authenticated, and so is `other`.
    if how not in ("well", "stale", "other", "replayed"):
        assert "signature" not in response.headers, f"{how}, and answered with a signature"
    if how == "replayed" and response.status_code < 400:
        # Reads and changes have separate nonces.
        acts = path.rsplit("/", 1)[1] not in ("query", "institutions", "events")
        assert acts not in replays, "one nonce, two replies"
        replays.add(acts)


@schemathesis.check
def refusals_are_known(ctx, response, case):
    """G-12: a refusal is a problem document with a known code, its status, and a request id; none hides a server error."""
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    media = (response.headers.get("content-type") or [""])[0]
    if media.startswith("text/html"):
        pages = ("/pay/{token}", "/pay/{token}/go", "/pay/{token}/return")
        assert case.operation.path in pages, "HTML to a program"
        return
    assert media == "application/problem+json", media
    problem = json_body(response)
    in_dialect = case.operation.path.startswith("/v1/callbacks/") and problem["type"] == "about:blank"
    assert problem.get("code") in (DIALECT_CODES if in_dialect else CODES), problem
    assert problem["result"] == "REFUSED" and problem["status"] == response.status_code, problem
    if not in_dialect:
        assert CODES[problem["code"]] == response.status_code, problem
        assert re.fullmatch(r"[0-9a-f]{16}", problem["requestId"]), problem
        assert problem["type"] == "urn:paymux:problem:" + problem["code"], problem
        assert response.status_code < 500, f"nothing was wrong with the gateway: {problem}"


def undocumented(value, schema: dict) -> list[str]:
    """Names in a value that its schema does not have."""
    if "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rsplit("/", 1)[1]]
    if isinstance(value, list):
        return [name for item in value for name in undocumented(item, schema.get("items", {}))]
    parts = [schema, *schema.get("allOf", [])]
    parts = [SCHEMAS[part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part for part in parts]
    properties = {}
    for part in parts:
        for name, below in part.get("properties", {}).items():
            properties.setdefault(name, below)
    if not isinstance(value, dict) or not properties:
        return []
    unknown = [name for name in value if name not in properties]
    return unknown + [n for name, item in value.items() if name in properties for n in undocumented(item, properties[name])]


@schemathesis.check
def replies_have_documented_fields_only(ctx, response, case):
    """The document names every field of a reply."""
    definition = case.operation.definition.raw["responses"].get(str(response.status_code))
    body = json_body(response)
    if definition is None or not body:
        return
    if "$ref" in definition:
        definition = DOCUMENT["components"]["responses"][definition["$ref"].rsplit("/", 1)[1]]
    media = (response.headers.get("content-type") or [""])[0].split(";")[0]
    schema = definition.get("content", {}).get(media, {}).get("schema", {})
    if "anyOf" in schema:
        schema = SCHEMAS["Problem"]
    unknown = undocumented(body, schema)
    assert not unknown, f"not in the document: {unknown}"
