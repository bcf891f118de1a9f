#!/usr/bin/env bash
# A merchant client for paymux, with curl and openssl (3.0 or later): places orders, selects, queries,
# verifies notifications. Signs with an Ed25519 key.
#
#     client.sh place NUMBER AMOUNT MOBILE [ORDER-DATE]
#     client.sh select NUMBER INSTITUTION
#     client.sh query NUMBER
#     client.sh notice        reads one HTTP request on stdin, writes the response to stdout
#
# A shell is not a server: `notice` is meant to be run by a server, once for each connection.
# Prints the body of a verified response on stdout. Exit status: 0 for 2xx (202: not known yet, query
# again), 1 refused by the gateway or the institution, 2 invalid arguments, 3 not proven: no response,
# or none with a valid signature of the gateway.
set -euf -o pipefail
export LC_ALL=C

# The gateway's address, exactly its `public_origin`: it is part of what is signed.
GATEWAY=${PAYMUX:-https://localhost:8443}
ROOTS=${PAYMUX_ROOTS:-certs/ca.pem}
# Our identity. The client certificate is used if the file exists.
MERCHANT=${MERCHANT:-M1001}
NAME=${MERCHANT_NAME:-Tea House}
KEY=${MERCHANT_KEY:-certs/M1001-1.key}
KEY_ID=${MERCHANT_KEY_ID:-M1001-1}
CERTIFICATE=${MERCHANT_CERTIFICATE:-certs/M1001.pem}
CERTIFICATE_KEY=${MERCHANT_CERTIFICATE_KEY:-certs/M1001.key}
# Where we receive notifications, exactly as in bankReturnUrl: it is part of what is signed.
NOTICES=${NOTICES:-https://localhost:7443/notices}
NOTICES_BOOK=${NOTICES_BOOK:-var/notices.txt}
# The orders we placed; notifications are compared with them.
ORDERS_BOOK=${ORDERS_BOOK:-var/orders.txt}
CURRENCY=CNY
# The gateway's keys, cached between runs, in one file per gateway. How long they are cached: a
# withdrawn key is trusted no longer than this. And the shortest time between two fetches because of
# an unknown key.
KEYS=${PAYMUX_KEYS:-var/keys-${GATEWAY//[^A-Za-z0-9.-]/_}.json}
KEYS_OLD_S=${PAYMUX_KEYS_OLD_S:-600}
KEYS_PAUSE_S=${PAYMUX_KEYS_PAUSE_S:-10}

REQUEST_PARTS='"@method" "@target-uri" "content-digest" "content-type"'
# The second line binds the response to our request: a response to another request is not accepted.
ANSWER_PARTS='"@status" "content-digest" "content-type"
"@method";req "@target-uri";req "content-digest";req "signature";req;key="sig1"'
NOT_OLDER_S=300
SKEW_S=30

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

not_proven() { echo "not proven: $*" >&2; exit 3; }

# Runs a function in a subshell that exits at its first failure; then $failed is not 0. Within `if`
# and `||` a shell continues after failures, which must not happen during verification.
strictly() { set +e; (set -e; "$@"); failed=$?; set -e; }

secure_curl() {
  local tls=(--cacert "$ROOTS")
  [ ! -e "$CERTIFICATE" ] || tls+=(--cert "$CERTIFICATE" --key "$CERTIFICATE_KEY")
  curl --silent --show-error --max-time 20 "${tls[@]}" "$@"
}

# The digest of a file, in the format of the header.
digest_of() { printf 'sha-256=:%s:' "$(openssl dgst -sha256 -binary "$1" | openssl base64 -A)"; }

# The value of a header in a file; several lines are joined to one value.
header() {
  tr -d '\r' <"$1" | awk -v name="$2" '
    NR == 1 { next }
    { at = index($0, ":") }
    at && tolower(substr($0, 1, at - 1)) == name {
      value = substr($0, at + 1)
      gsub(/^[ \t]+|[ \t]+$/, "", value)
      all = all (seen++ ? ", " : "") value
    }
    END { print all }'
}

# A JSON object of text fields: name, value, name, value. Values are escaped.
object() {
  local fields= value
  while [ $# -gt 0 ]; do
    value=${2//\\/\\\\} value=${value//\"/\\\"}
    [[ $value != *[[:cntrl:]]* ]] || not_proven "$1 contains a control character"
    fields+="${fields:+,}\"$1\":\"$value\""
    shift 2
  done
  printf '{%s}' "$fields"
}

# A text field of a verified JSON object. Quotes within values are always escaped, so that no part of
# a value can look like a name.
field() { sed -n "s/.*\"$1\":\"\([^\"\\\\]*\)\".*/\1/p" "$work/body"; }

# Seconds since a file was written; a very large number if it does not exist or lies in the future.
age_of() {
  local age=-1
  [ ! -e "$1" ] || age=$(($(date +%s) - $(date -r "$1" +%s)))
  if [ "$age" -ge 0 ]; then echo "$age"; else echo 999999999; fi
}

young() { [ "$(age_of "$KEYS")" -lt "$KEYS_OLD_S" ]; }

# The key with this id; the set is split into one line per key.
kept() { tr -d ' \n' <"$KEYS" | tr '{' '\n' | grep -F "\"kid\":\"$1\""; }

# Fetches the keys from the gateway, authenticated by TLS. They are not fetched for every message: a
# recent result is reused, and processes that arrive during a fetch wait for it.
look() {
  local got
  mkdir -p "$(dirname "$KEYS")"
  {
    flock 8
    if [ "$(age_of "$KEYS.tried")" -lt "$KEYS_PAUSE_S" ]; then
      young
    else
      # Set before the fetch: a failed fetch counts as well.
      touch "$KEYS.tried" &&
        got=$(secure_curl --max-time 10 --output "$KEYS.new" --write-out '%{http_code}' \
          "$GATEWAY/.well-known/jwks.json") && [ "$got" = 200 ] && mv "$KEYS.new" "$KEYS"
    fi
  } 8>>"$KEYS.lock"
}

# Writes a public key of the gateway to a file.
platform_key() {
  local jwk= x now
  # An unknown id is a new key, or not the gateway's.
  ! young || jwk=$(kept "$1") || jwk=
  [ -n "$jwk" ] || { look && jwk=$(kept "$1"); } || not_proven "the platform has no key '$1'"
  now=$(date +%s)
  [[ $jwk == *'"crv":"Ed25519"'* && $jwk =~ \"x\":\"([A-Za-z0-9_-]{43})\" ]] ||
    not_proven "the key '$1' is not Ed25519, the only type that this script supports"
  x=${BASH_REMATCH[1]}
  [[ $jwk =~ \"nbf\":([0-9]{1,12})[,}] ]] && [ "${BASH_REMATCH[1]}" -le "$now" ] &&
    [[ $jwk =~ \"exp\":([0-9]{1,12})[,}] ]] && [ "${BASH_REMATCH[1]}" -ge "$now" ] ||
    not_proven "the key '$1' is not in force"
  # RFC 8410: the prefix of an Ed25519 public key, then its 32 bytes.
  { printf '\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00'
    printf '%s=' "$x" | tr '_-' '/+' | openssl base64 -d -A; } |
    openssl pkey -pubin -inform DER -out "$work/platform.pub"
}

# The value of one covered component of the message in $work/head; $status for responses, and
# $target, $digest and $signature of the request.
part() {
  case $1 in
    '"@method"' | '"@method";req') printf POST ;;
    '"@target-uri"' | '"@target-uri";req') printf '%s' "$target" ;;
    '"@status"') printf '%s' "${status:?}" ;;
    '"content-digest";req') printf '%s' "${digest:?}" ;;
    '"signature";req;key="sig1"') printf ':%s:' "${signature:?}" ;;
    '"content-digest"') header "$work/head" content-digest ;;
    '"content-type"') header "$work/head" content-type ;;
    *) not_proven "it covers $1, which this program does not support" ;;
  esac
}

# Verifies that the gateway signed the message in $work/head, all these components, and $work/body.
verify() {
  local input proof label covered parameters now wanted base=
  input=$(header "$work/head" signature-input)
  proof=$(header "$work/head" signature)
  # Exactly one signature: a second one would not match.
  [[ $input =~ ^([a-z0-9_.*-]+)=\(([^\(\)]*)\)(\;[^,\(\)]*)$ ]] ||
    not_proven 'the message does not have exactly one signature'
  label=${BASH_REMATCH[1]} covered=${BASH_REMATCH[2]} parameters=${BASH_REMATCH[3]}
  for wanted in $1; do
    [[ " $covered " == *" $wanted "* ]] || not_proven "the signature does not cover $wanted"
  done
  now=$(date +%s)
  [[ $parameters =~ \;created=([0-9]{1,12})(\;|$) ]] &&
    [ "${BASH_REMATCH[1]}" -ge $((now - NOT_OLDER_S)) ] &&
    [ "${BASH_REMATCH[1]}" -le $((now + SKEW_S)) ] || not_proven 'the signature is not recent'
  if [[ $parameters =~ \;expires=([0-9]{1,12})(\;|$) ]]; then
    [ "${BASH_REMATCH[1]}" -ge $((now - SKEW_S)) ] || not_proven 'the signature has expired'
  fi
  [[ $(header "$work/head" content-digest) == "$(digest_of "$work/body")" ]] ||
    not_proven 'content-digest does not match the body'
  [[ $parameters =~ \;keyid=\"([A-Za-z0-9._-]{1,64})\" ]] || not_proven 'the signature names no key'
  platform_key "${BASH_REMATCH[1]}"
  for wanted in $covered; do
    base+="$wanted: $(part "$wanted")"$'\n' || exit 3
  done
  printf '%s"@signature-params": (%s)%s' "$base" "$covered" "$parameters" >"$work/base"
  [[ $proof =~ ^"$label"=:([A-Za-z0-9+/=]+):$ ]] || not_proven 'Signature does not match Signature-Input'
  printf '%s' "${BASH_REMATCH[1]}" | openssl base64 -d -A >"$work/proof"
  openssl pkeyutl -verify -rawin -pubin -inkey "$work/platform.pub" -in "$work/base" \
    -sigfile "$work/proof" >"$work/said" 2>&1 || not_proven "the signature is not the platform's"
}

# Signs and sends $work/question to a path. Sign before each attempt: a nonce can be used only once.
send() {
  local nonce now parameters media='application/json'
  target=$GATEWAY$1
  digest=$(digest_of "$work/question")
  nonce=$(openssl rand -base64 24 | tr '/+' '_-')
  now=$(date +%s)
  parameters="($REQUEST_PARTS);created=$now;expires=$((now + 120));nonce=\"$nonce\";keyid=\"$KEY_ID\""
  printf '"@method": POST\n"@target-uri": %s\n"content-digest": %s\n"content-type": %s\n"@signature-params": %s' \
    "$target" "$digest" "$media" "$parameters" >"$work/base"
  signature=$(openssl pkeyutl -sign -rawin -inkey "$KEY" -in "$work/base" | openssl base64 -A) ||
    not_proven "could not sign with $KEY"
  status=$(secure_curl --dump-header "$work/head" --output "$work/body" --write-out '%{http_code}' \
    --header "content-type: $media" --header "content-digest: $digest" \
    --header "signature-input: sig1=$parameters" --header "signature: sig1=:$signature:" \
    --data-binary "@$work/question" "$target")
}

# Sends until there is a response: the same bytes each time, with a new signature.
call() {
  local wait asked
  object "${@:2}" >"$work/question"
  for wait in 1 2 4 none; do
    : >"$work/body"
    if send "$1"; then
      case $status in 429 | 500 | 503) ;; *) break ;; esac
      asked=$(header "$work/head" retry-after)
      [[ $wait == none || ! $asked =~ ^[0-9]{1,2}$ ]] || wait=$asked
    elif [ "$wait" = none ]; then
      not_proven 'no response'
    fi
    [ "$wait" = none ] || sleep "$wait"
  done
  # An error response to an unidentified caller is unsigned: show it, do not trust it.
  strictly verify "$ANSWER_PARTS"
  [ "$failed" = 0 ] || not_proven "HTTP $status, body: $(cat "$work/body")"
  cat "$work/body"
  echo
  [ "$status" != 202 ] || echo 'not known yet: query again' >&2
  # A refusal by the institution is also a valid response.
  [ "$status/$(field result)" != 200/REFUSED ] || { echo "refused: $(field reason)" >&2; exit 1; }
  [[ $status == 2* ]] || exit 1
}

# An order as one line: number, amount, currency; 12.3 and 12.30 are equal.
terms() {
  local line
  line="$1 $(printf '%s' "$2" | sed -E 's/(\.[0-9]*[1-9])0+$/\1/; s/\.0*$//') $3"
  [[ $line =~ ^[A-Za-z0-9_-]{1,32}' '[0-9]+(\.[0-9]+)?' '[A-Z]{3}$ ]] ||
    not_proven 'expected NUMBER AMOUNT, such as T1 12.30'
  printf '%s\n' "$line"
}

# Stores the order before it is placed. In production: your orders table.
remember() {
  mkdir -p "$(dirname "$ORDERS_BOOK")"
  printf '%s\n' "$1" >>"$ORDERS_BOOK"
  sync "$ORDERS_BOOK"
}

# Whether we placed the order in $work/body, for this amount in this currency.
is_ours() {
  local line
  [ "$(field merchantId)" = "$MERCHANT" ] || return 1
  line=$(terms "$(field merchantOrderNo)" "$(field orderAmount)" "$(field currency)") || return 1
  grep -qxF -e "$line" "$ORDERS_BOOK"
}

place() {
  local today line
  # The date is part of the order: store it, a repeat must send the same date.
  today=$(TZ=UTC-8 date +%Y%m%d)
  line=$(terms "$1" "$2" "$CURRENCY")
  remember "$line"
  call /v1/orders merchantId "$MERCHANT" transactionType PASSWORD_PAY businessType AGGREGATED \
    bankReturnUrl "$NOTICES" merchantOrderNo "$1" merchantName "$NAME" orderDate "${4:-$today}" \
    orderAmount "$2" currency "$CURRENCY" mobileNo "$3" goodsName '明前龙井'
}

select_institution() {
  call /v1/orders/select merchantId "$MERCHANT" merchantOrderNo "$1" institutionId "$2" mode WEBVIEW
}

query() {
  call /v1/orders/query merchantId "$MERCHANT" merchantOrderNo "$1"
}

reply() {
  local body="{\"noticeResult\":\"$2\"}"
  printf 'HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s' \
    "$1" "${#body}" "$body"
}

# Records each event once. In production: one database transaction for the event's id and for its
# effect.
enter() {
  local event
  event=$(field eventId)
  [[ $event =~ ^[A-Za-z0-9_-]{1,64}$ ]] || not_proven 'the event has no eventId'
  mkdir -p "$(dirname "$NOTICES_BOOK")"
  {
    flock 9
    if grep -q "^$event " "$NOTICES_BOOK"; then
      echo "repeated $event" >&2
    else
      echo "$event $(field eventType) $(field merchantOrderNo) $(field orderAmount) $(field currency) $(field orderStatus)" >&9
      sync "$NOTICES_BOOK"
      echo "heard $event" >&2
    fi
  } 9>>"$NOTICES_BOOK"
}

hear() {
  local line length
  IFS= read -r line
  printf '%s\n' "$line" >"$work/head"
  # Not the Host header: a notification for another merchant must not be accepted here.
  target=$NOTICES
  [[ $line == "POST /${NOTICES#https://*/} HTTP/1.1"$'\r' ]] || not_proven "no notifications are accepted there"
  while IFS= read -r line && [ "$line" != $'\r' ]; do printf '%s\n' "$line"; done >>"$work/head"
  length=$(header "$work/head" content-length)
  [[ $length =~ ^[0-9]{1,5}$ ]] || not_proven 'the length is missing or too large'
  head -c "$length" >"$work/body"
  verify "$REQUEST_PARTS"
  is_ours || not_proven 'not our order, or another amount or currency'
  enter
}

# SUCCESS only after it is stored durably.
notice() {
  strictly hear
  if [ "$failed" = 0 ]; then reply '200 OK' SUCCESS; else reply '401 Unauthorized' FAILURE; fi
}

case ${1:-}/$# in
  place/4 | place/5) place "${@:2}" ;;
  select/3) select_institution "${@:2}" ;;
  query/2) query "$2" ;;
  notice/1) notice ;;
  *) sed -n '/^#  /p' "$0" >&2; exit 2 ;;
esac
