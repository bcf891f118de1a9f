// A merchant client for paymux, in Node: places orders, selects, queries, receives notifications.
const USAGE = `
    node client.mjs place NUMBER AMOUNT MOBILE [ORDER-DATE]
    node client.mjs select NUMBER INSTITUTION
    node client.mjs query NUMBER
    node client.mjs listen

Prints the body of a verified response on stdout. Exit status: 0 for 2xx (202: not known yet, query
again), 1 refused by the gateway or the institution, 2 invalid arguments, 3 not proven: no response,
or none with a valid signature of the gateway.`;

import crypto from 'node:crypto';
import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { createSigner, createVerifier, httpbis } from 'http-message-signatures';
import { parseDictionary, serializeItem } from 'structured-headers';

const env = (name, otherwise) => process.env[name] ?? otherwise;
// The gateway's address, exactly its `public_origin`: it is part of what is signed.
const GATEWAY = env('PAYMUX', 'https://localhost:8443');
const ROOTS = env('PAYMUX_ROOTS', 'certs/ca.pem');
// Our identity. The client certificate is used if the file exists.
const MERCHANT = env('MERCHANT', 'M1001');
const NAME = env('MERCHANT_NAME', 'Tea House');
const KEY = env('MERCHANT_KEY', 'certs/M1001-1.key');
const KEY_ID = env('MERCHANT_KEY_ID', 'M1001-1');
const CERTIFICATE = env('MERCHANT_CERTIFICATE', 'certs/M1001.pem');
const CERTIFICATE_KEY = env('MERCHANT_CERTIFICATE_KEY', 'certs/M1001.key');
// Where we receive notifications, exactly as in bankReturnUrl: it is part of what is signed.
const NOTICES = env('NOTICES', 'https://localhost:7443/notices');
const NOTICES_CERTIFICATE = env('NOTICES_CERTIFICATE', 'certs/server.pem');
const NOTICES_KEY = env('NOTICES_KEY', 'certs/server.key');
const NOTICES_BOOK = env('NOTICES_BOOK', 'var/notices.txt');
// The orders we placed; notifications are compared with them.
const ORDERS_BOOK = env('ORDERS_BOOK', 'var/orders.txt');
const CURRENCY = 'CNY';
// How long the gateway's keys are cached: a withdrawn key is trusted no longer than this. And the
// shortest time between two fetches because of an unknown key.
const KEYS_OLD_S = Number(env('PAYMUX_KEYS_OLD_S', '600'));
const KEYS_PAUSE_S = Number(env('PAYMUX_KEYS_PAUSE_S', '10'));

const REQUEST_PARTS = ['"@method"', '"@target-uri"', '"content-digest"', '"content-type"'];
const ANSWER_PARTS = [
  '"@status"', '"content-digest"', '"content-type"',
  // These bind the response to our request: a response to another request is not accepted.
  '"@method";req', '"@target-uri";req', '"content-digest";req', '"signature";req;key="sig1"',
];
const NOT_OLDER_S = 300;
const SKEW_S = 30;
const BODY_BYTES_MAX = 65536;
const WAITS_S = [1, 2, 4]; // between attempts, unless the gateway sends Retry-After

class NotProven extends Error {}

const digestOf = (body, name = 'sha256') => crypto.createHash(name).update(body).digest('base64');

/** TLS settings of every connection. */
const connecting = () => new https.Agent({
  // If these cannot be read, nothing is sent: otherwise every public CA would be trusted.
  ca: fs.readFileSync(ROOTS),
  ...(fs.existsSync(CERTIFICATE)
    && { cert: fs.readFileSync(CERTIFICATE), key: fs.readFileSync(CERTIFICATE_KEY) }),
});
let agent;

/** One exchange over TLS. No redirect is followed. */
function send(method, url, headers, body) {
  return new Promise((resolve, reject) => {
    const request = https.request(url, { method, headers, agent, timeout: 20_000 }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('error', reject);
      answer.on('end', () => resolve({
        status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts),
      }));
    });
    request.on('timeout', () => request.destroy(new Error('no response in time')));
    request.on('error', reject);
    request.end(body);
  });
}

/** The key determines the algorithm, never the message. */
function kind(key) {
  const known = { ed25519: 'ed25519', ec: 'ecdsa-p256-sha256', rsa: 'rsa-pss-sha512' };
  const found = known[key.asymmetricKeyType];
  if (!found) throw new NotProven(`unsupported key type: ${key.asymmetricKeyType}`);
  return found;
}

// RFC 9421 requires a salt of 64 bytes; the library uses the longest possible one.
const PSS = { padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: 64 };

function signer(key, id) {
  const alg = kind(key);
  if (alg !== 'rsa-pss-sha512') return createSigner(key, alg, id);
  return { id, alg, sign: async (data) => crypto.sign('sha512', data, { key, ...PSS }) };
}

function verifier(key) {
  const alg = kind(key);
  if (alg !== 'rsa-pss-sha512') return createVerifier(key, alg);
  return async (data, signature) => crypto.verify('sha512', data, { key, ...PSS }, signature);
}

const published = { keys: [], fetched: -Infinity, tried: -Infinity, looking: false };

async function fetchKeys(now) {
  try {
    const answer = await send('GET', `${GATEWAY}/.well-known/jwks.json`, {});
    if (answer.status !== 200) throw new NotProven(`no keys: HTTP ${answer.status}`);
    const { keys } = JSON.parse(answer.body);
    Object.assign(published, { keys, fetched: now });
    return keys;
  } finally {
    published.looking = false;
  }
}

/**
 * The current keys. They are not fetched for every message: a recent result is reused, and callers
 * that arrive during a fetch wait for it.
 */
function look() {
  const now = performance.now();
  if (!published.looking && now - published.tried >= KEYS_PAUSE_S * 1000) {
    // Set before the fetch: a failed fetch counts as well.
    Object.assign(published, { tried: now, looking: true });
    published.latest = fetchKeys(now);
  }
  return published.latest;
}

/** A public key of the gateway, fetched from the gateway and authenticated by TLS. */
async function platformKey(id) {
  const find = (keys) => keys.find((jwk) => jwk.kid === id);
  const young = performance.now() - published.fetched < KEYS_OLD_S * 1000;
  // An unknown id is a new key, or not the gateway's.
  const jwk = (young && find(published.keys)) || find(await look());
  const now = Date.now() / 1000;
  if (!jwk || now < jwk.nbf || now > jwk.exp) {
    throw new NotProven(`the platform has no key '${id}' in force`);
  }
  return crypto.createPublicKey({ key: jwk, format: 'jwk' });
}

/** Every digest of a supported algorithm must match, and there must be at least one. */
function checkDigest(headers, body) {
  const digests = parseDictionary(headers['content-digest'] ?? '');
  const known = [['sha-256', 'sha256'], ['sha-512', 'sha512']].filter(([name]) => digests.has(name));
  const right = known.every(([name, hash]) => (
    Buffer.from(digests.get(name)[0]).equals(Buffer.from(digestOf(body, hash), 'base64'))
  ));
  if (!known.length || !right) throw new NotProven('content-digest does not match the body');
}

/**
 * Verifies that the gateway signed the message, all these components of it, and this body.
 *
 * Checks that the library does not make: it compares covered components by name only, so that
 * "@method" would pass for "@method";req; it accepts more than one signature; it ignores
 * Content-Digest; and it returns null, not false, for a key that is not found.
 */
async function verify(message, body, parts, question) {
  try {
    const inputs = parseDictionary(message.headers['signature-input'] ?? '');
    if (inputs.size !== 1) throw new NotProven('expected exactly one signature');
    const [[covered, parameters]] = inputs.values();
    const identifiers = covered.map((item) => serializeItem(item));
    const missing = parts.filter((part) => !identifiers.includes(part));
    if (missing.length) throw new NotProven(`the signature does not cover ${missing.join(' ')}`);
    if (new Set(identifiers).size !== identifiers.length) throw new NotProven('a component is covered twice');
    const key = await platformKey(parameters.get('keyid'));
    const proven = await httpbis.verifyMessage({
      keyLookup: async () => ({ algs: [kind(key)], verify: verifier(key) }),
      requiredParams: ['created', 'keyid'],
      maxAge: NOT_OLDER_S,
      tolerance: SKEW_S,
    }, message, question);
    if (proven !== true) throw new NotProven('the signature is not the platform\'s');
    checkDigest(message.headers, body);
  } catch (fault) {
    throw fault instanceof NotProven ? fault : new NotProven(fault.message);
  }
}

/** A signed request. Sign again before each attempt: a nonce can be used only once. */
function signed(where, body) {
  const key = crypto.createPrivateKey(fs.readFileSync(KEY));
  return httpbis.signMessage({
    key: signer(key, KEY_ID),
    name: 'sig1',
    fields: REQUEST_PARTS,
    params: ['created', 'expires', 'nonce', 'keyid'],
    paramValues: {
      expires: new Date(Date.now() + 120_000),
      nonce: crypto.randomBytes(24).toString('base64url'),
    },
  }, {
    method: 'POST',
    url: GATEWAY + where,
    headers: {
      'content-type': 'application/json',
      // Over exactly the bytes that are sent.
      'content-digest': `sha-256=:${digestOf(body)}:`,
    },
  });
}

/** Sends until there is a response: the same bytes each time, with a new signature. */
async function ask(where, fields) {
  const body = Buffer.from(JSON.stringify({ merchantId: MERCHANT, ...fields }));
  for (let tries = 0; ; tries += 1) {
    const question = await signed(where, body);
    let wait = WAITS_S[tries];
    try {
      const headers = { ...question.headers, 'content-length': body.length };
      const answer = await send('POST', question.url, headers, body);
      if (wait === undefined || ![429, 500, 503].includes(answer.status)) return { answer, question };
      wait = Math.min(Number.parseInt(answer.headers['retry-after'], 10) || wait, 30);
    } catch (fault) {
      if (wait === undefined) throw new NotProven(`no response: ${fault.message}`);
    }
    await pause(wait * 1000);
  }
}

async function call(where, fields) {
  const { answer, question } = await ask(where, fields);
  try {
    await verify(answer, answer.body, ANSWER_PARTS, question);
  } catch (fault) {
    // An error response to an unidentified caller is unsigned: show it, do not trust it.
    throw new NotProven(`${fault.message}; HTTP ${answer.status}, body: ${answer.body}`);
  }
  console.log(answer.body.toString());
  if (answer.status === 202) console.error('not known yet: query again');
  const said = JSON.parse(answer.body);
  // A refusal by the institution is also a valid response.
  if (answer.status === 200 && said.result === 'REFUSED') {
    console.error(`refused: ${said.reason}`);
    return 1;
  }
  return answer.status < 300 ? 0 : 1;
}

/** An order as one line; 12.3 and 12.30 are equal. */
function terms(number, sum, currency) {
  const plain = String(sum).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '');
  const line = `${number} ${plain} ${currency}`;
  if (!/^[A-Za-z0-9_-]{1,32} \d+(\.\d+)? [A-Z]{3}$/.test(line)) {
    throw new NotProven('expected NUMBER AMOUNT, such as T1 12.30');
  }
  return line;
}

/** Stores the order before it is placed. In production: your orders table. */
function remember(line) {
  fs.mkdirSync(path.dirname(ORDERS_BOOK), { recursive: true });
  const file = fs.openSync(ORDERS_BOOK, 'a');
  fs.writeSync(file, `${line}\n`);
  fs.fsyncSync(file);
  fs.closeSync(file);
}

/** Whether we placed this order, for this amount in this currency. */
function isOurs(event) {
  if (event.merchantId !== MERCHANT) return false;
  const line = terms(event.merchantOrderNo, event.orderAmount, event.currency);
  return fs.readFileSync(ORDERS_BOOK, 'utf8').split('\n').includes(line);
}

function place(number, sum, mobile, date) {
  remember(terms(number, sum, CURRENCY));
  // The date is part of the order: store it, a repeat must send the same date.
  const today = new Date(Date.now() + 8 * 3_600_000).toISOString().slice(0, 10).replaceAll('-', '');
  return call('/v1/orders', {
    transactionType: 'PASSWORD_PAY',
    businessType: 'AGGREGATED',
    bankReturnUrl: NOTICES,
    merchantOrderNo: number,
    merchantName: NAME,
    orderDate: date ?? today,
    orderAmount: sum,
    currency: CURRENCY,
    mobileNo: mobile,
    goodsName: '明前龙井',
  });
}

const select = (number, institution) => call('/v1/orders/select', {
  merchantOrderNo: number, institutionId: institution, mode: 'WEBVIEW',
});

const query = (number) => call('/v1/orders/query', { merchantOrderNo: number });

/**
 * Records each event once. In production: one database transaction for the event's id and for
 * its effect.
 */
class Book {
  constructor(file) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    this.file = fs.openSync(file, 'a+');
    this.seen = new Set(fs.readFileSync(file, 'utf8').split('\n').map((line) => line.split(' ')[0]));
  }

  enter(event) {
    if (this.seen.has(event.eventId)) return 'repeated';
    const names = [
      'eventId', 'eventType', 'merchantOrderNo', 'orderAmount', 'currency', 'orderStatus',
    ];
    fs.writeSync(this.file, `${names.map((name) => event[name]).join(' ')}\n`);
    fs.fsyncSync(this.file);
    this.seen.add(event.eventId);
    return 'heard';
  }
}

async function bodyOf(request) {
  const parts = [];
  let bytes = 0;
  for await (const part of request) {
    bytes += part.length;
    if (bytes > BODY_BYTES_MAX) throw new NotProven('the body is too long');
    parts.push(part);
  }
  return Buffer.concat(parts);
}

async function hear(book, request) {
  const { pathname, search } = new URL(NOTICES);
  if (request.method !== 'POST' || request.url !== pathname + search) {
    throw new NotProven(`no notifications are accepted at ${request.url}`);
  }
  const body = await bodyOf(request);
  // Not the Host header: a notification for another merchant must not be accepted here.
  const message = { method: 'POST', url: NOTICES, headers: request.headers };
  await verify(message, body, REQUEST_PARTS);
  const event = JSON.parse(body);
  if (!isOurs(event)) throw new NotProven('not our order, or another amount or currency');
  console.log(book.enter(event), event.eventId);
}

function listen() {
  const book = new Book(NOTICES_BOOK);
  const identity = {
    cert: fs.readFileSync(NOTICES_CERTIFICATE), key: fs.readFileSync(NOTICES_KEY),
  };
  const server = https.createServer({ ...identity, requestTimeout: 10_000 }, (request, answer) => {
    const reply = (status, word) => {
      answer.writeHead(status, { 'content-type': 'application/json' });
      answer.end(JSON.stringify({ noticeResult: word }));
    };
    // SUCCESS only after it is stored durably.
    hear(book, request).then(() => reply(200, 'SUCCESS'), (fault) => {
      console.error(`refused: ${fault.message}`);
      reply(401, 'FAILURE');
    });
  });
  return new Promise(() => {
    server.listen(Number(new URL(NOTICES).port || 443), '127.0.0.1', () => {
      console.log(`listening at ${NOTICES}`);
    });
  });
}

const deeds = { place: [place, 3, 4], select: [select, 2, 2], query: [query, 1, 1], listen: [listen, 0, 0] };
const [word, ...rest] = process.argv.slice(2);
const [deed, least, most] = deeds[word] ?? [];
if (!deed || rest.length < least || rest.length > most) {
  console.error(USAGE);
  process.exitCode = 2;
} else {
  try {
    agent = connecting();
    process.exitCode = await deed(...rest);
  } catch (fault) {
    console.error(`not proven: ${fault.message}`);
    process.exitCode = 3;
  }
  agent?.destroy();
}
