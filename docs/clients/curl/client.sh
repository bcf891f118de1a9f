#!/usr/bin/env bash
# A merchant of paymux, in curl and openssl (3.0 or later): places, selects, queries, and proves
# notifications. Signs with an Ed25519 key.
#
#     client.sh place NUMBER SUM MOBILE [ORDER-DATE]
#     client.sh select NUMBER INSTITUTION
#     client.sh query NUMBER
#     client.sh notice        one HTTP request on stdin, its answer on stdout
#
# A shell is no server: `notice` is for whatever accepts connections and hands each of them on.
# The body of a proven answer goes to stdout. Exit status: 0 for 2xx (202: not known yet, ask again),
# 1 refused, by the gateway or by the institution, 2 used wrongly, 3 nothing proven: no answer, or none
# that the gateway signed for us.
set -euf -o pipefail
export LC_ALL=C

# Where the gateway is, exactly as it calls itself (`public_origin`): this is signed.
GATEWAY=${PAYMUX:-https://localhost:8443}
ROOTS=${PAYMUX_ROOTS:-certs/ca.pem}
# Who we are. A client certificate is shown if there is one.
MERCHANT=${MERCHANT:-M1001}
NAME=${MERCHANT_NAME:-Tea House}
KEY=${MERCHANT_KEY:-certs/M1001-1.key}
KEY_ID=${MERCHANT_KEY_ID:-M1001-1}
CERTIFICATE=${MERCHANT_CERTIFICATE:-certs/M1001.pem}
CERTIFICATE_KEY=${MERCHANT_CERTIFICATE_KEY:-certs/M1001.key}
# Where we are told, exactly as we say it in bankReturnUrl: this is signed as well.
NOTICES=${NOTICES:-https://localhost:7443/notices}
NOTICES_BOOK=${NOTICES_BOOK:-var/notices.txt}
# What we asked for; what we are told is compared with it.
ORDERS_BOOK=${ORDERS_BOOK:-var/orders.txt}
CURRENCY=CNY
# The gateway's keys, kept between runs; each gateway's in a file of its own. How long they are
# believed before they are fetched anew: a key that was withdrawn is believed no longer than this.
# And how soon they are fetched again for a key we do not know.
KEYS=${PAYMUX_KEYS:-var/keys-${GATEWAY//[^A-Za-z0-9.-]/_}.json}
KEYS_OLD_S=${PAYMUX_KEYS_OLD_S:-600}
KEYS_PAUSE_S=${PAYMUX_KEYS_PAUSE_S:-10}

REQUEST_PARTS='"@method" "@target-uri" "content-digest" "content-type"'
# The second line binds the answer to our question: nobody can hand us the answer to another one.
ANSWER_PARTS='"@status" "content-digest" "content-type"
"@method";req "@target-uri";req "content-digest";req "signature";req;key="sig1"'
NOT_OLDER_S=300
SKEW_S=30

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

not_proven() { echo "not proven: $*" >&2; exit 3; }

# Runs a function in a shell that ends at its first failure; $failed is not 0 then. Within `if` and
# `||` a shell goes on after failures, and that must not happen to a proof.
strictly() { set +e; (set -e; "$@"); failed=$?; set -e; }

secure_curl() {
  local tls=(--cacert "$ROOTS")
  [ ! -e "$CERTIFICATE" ] || tls+=(--cert "$CERTIFICATE" --key "$CERTIFICATE_KEY")
  curl --silent --show-error --max-time 20 "${tls[@]}" "$@"
}

# The digest of a file, as the header has it.
digest_of() { printf 'sha-256=:%s:' "$(openssl dgst -sha256 -binary "$1" | openssl base64 -A)"; }

# The value of a header in a file; several lines of it are one value.
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

# A JSON object of text fields: name, value, name, value. Whatever a value is, it stays a value.
object() {
  local fields= value
  while [ $# -gt 0 ]; do
    value=${2//\\/\\\\} value=${value//\"/\\\"}
    [[ $value != *[[:cntrl:]]* ]] || not_proven "$1 has a control character"
    fields+="${fields:+,}\"$1\":\"$value\""
    shift 2
  done
  printf '{%s}' "$fields"
}

# A text field of a proven JSON object. Inside a value a quote is always escaped, so that nothing
# in a value looks like a name.
field() { sed -n "s/.*\"$1\":\"\([^\"\\\\]*\)\".*/\1/p" "$work/body"; }

# Seconds since a file was written; far too many if it was never, or has yet to be.
age_of() {
  local age=-1
  [ ! -e "$1" ] || age=$(($(date +%s) - $(date -r "$1" +%s)))
  if [ "$age" -ge 0 ]; then echo "$age"; else echo 999999999; fi
}

young() { [ "$(age_of "$KEYS")" -lt "$KEYS_OLD_S" ]; }

# The key of this id; each key of the set on a line of its own.
kept() { tr -d ' \n' <"$KEYS" | tr '{' '\n' | grep -F "\"kid\":\"$1\""; }

# Fetches the keys from the gateway itself, TLS vouches for them; but not at every message: what the
# last look brought serves for a while. Who comes during a look waits for it.
look() {
  local got
  mkdir -p "$(dirname "$KEYS")"
  {
    flock 8
    if [ "$(age_of "$KEYS.tried")" -lt "$KEYS_PAUSE_S" ]; then
      young
    else
      # Before it is done: a look that fails counts as well.
      touch "$KEYS.tried" &&
        got=$(secure_curl --max-time 10 --output "$KEYS.new" --write-out '%{http_code}' \
          "$GATEWAY/.well-known/jwks.json") && [ "$got" = 200 ] && mv "$KEYS.new" "$KEYS"
    fi
  } 8>>"$KEYS.lock"
}

# Writes a public key of the gateway into a file.
platform_key() {
  local jwk= x now
  # An id we do not know is a new key, or a stranger.
  ! young || jwk=$(kept "$1") || jwk=
  [ -n "$jwk" ] || { look && jwk=$(kept "$1"); } || not_proven "the platform has no key '$1'"
  now=$(date +%s)
  [[ $jwk == *'"crv":"Ed25519"'* && $jwk =~ \"x\":\"([A-Za-z0-9_-]{43})\" ]] ||
    not_proven "the key '$1' is not Ed25519: openssl alone reads no other here"
  x=${BASH_REMATCH[1]}
  [[ $jwk =~ \"nbf\":([0-9]{1,12})[,}] ]] && [ "${BASH_REMATCH[1]}" -le "$now" ] &&
    [[ $jwk =~ \"exp\":([0-9]{1,12})[,}] ]] && [ "${BASH_REMATCH[1]}" -ge "$now" ] ||
    not_proven "the key '$1' is not in force"
  # RFC 8410: the head of an Ed25519 public key, then its 32 bytes.
  { printf '\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00'
    printf '%s=' "$x" | tr '_-' '/+' | openssl base64 -d -A; } |
    openssl pkey -pubin -inform DER -out "$work/platform.pub"
}

# The value of one covered part of the message in $work/head; $status for answers, and of the
# request $target, $digest and $signature.
part() {
  case $1 in
    '"@method"' | '"@method";req') printf POST ;;
    '"@target-uri"' | '"@target-uri";req') printf '%s' "$target" ;;
    '"@status"') printf '%s' "${status:?}" ;;
    '"content-digest";req') printf '%s' "${digest:?}" ;;
    '"signature";req;key="sig1"') printf ':%s:' "${signature:?}" ;;
    '"content-digest"') header "$work/head" content-digest ;;
    '"content-type"') header "$work/head" content-type ;;
    *) not_proven "it covers $1, which this program cannot tell" ;;
  esac
}

# Proves that the gateway signed the message in $work/head, all these parts of it, and $work/body.
verify() {
  local input proof label covered parameters now wanted base=
  input=$(header "$work/head" signature-input)
  proof=$(header "$work/head" signature)
  # One signature, no more: a second one would not match.
  [[ $input =~ ^([a-z0-9_.*-]+)=\(([^\(\)]*)\)(\;[^,\(\)]*)$ ]] ||
    not_proven 'the message is not signed, or not once'
  label=${BASH_REMATCH[1]} covered=${BASH_REMATCH[2]} parameters=${BASH_REMATCH[3]}
  for wanted in $1; do
    [[ " $covered " == *" $wanted "* ]] || not_proven "the signature does not cover $wanted"
  done
  now=$(date +%s)
  [[ $parameters =~ \;created=([0-9]{1,12})(\;|$) ]] &&
    [ "${BASH_REMATCH[1]}" -ge $((now - NOT_OLDER_S)) ] &&
    [ "${BASH_REMATCH[1]}" -le $((now + SKEW_S)) ] || not_proven 'it was not made just now'
  if [[ $parameters =~ \;expires=([0-9]{1,12})(\;|$) ]]; then
    [ "${BASH_REMATCH[1]}" -ge $((now - SKEW_S)) ] || not_proven 'it has expired'
  fi
  [[ $(header "$work/head" content-digest) == "$(digest_of "$work/body")" ]] ||
    not_proven 'content-digest is not that of this body'
  [[ $parameters =~ \;keyid=\"([A-Za-z0-9._-]{1,64})\" ]] || not_proven 'it names no key'
  platform_key "${BASH_REMATCH[1]}"
  for wanted in $covered; do
    base+="$wanted: $(part "$wanted")"$'\n' || exit 3
  done
  printf '%s"@signature-params": (%s)%s' "$base" "$covered" "$parameters" >"$work/base"
  [[ $proof =~ ^"$label"=:([A-Za-z0-9+/=]+):$ ]] || not_proven 'Signature does not fit Signature-Input'
  printf '%s' "${BASH_REMATCH[1]}" | openssl base64 -d -A >"$work/proof"
  openssl pkeyutl -verify -rawin -pubin -inkey "$work/platform.pub" -in "$work/base" \
    -sigfile "$work/proof" >"$work/said" 2>&1 || not_proven "the signature is not the platform's"
}

# Signs and sends $work/question to a path. Sign again before each try: a nonce is good for once.
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
    not_proven "$KEY does not sign"
  status=$(secure_curl --dump-header "$work/head" --output "$work/body" --write-out '%{http_code}' \
    --header "content-type: $media" --header "content-digest: $digest" \
    --header "signature-input: sig1=$parameters" --header "signature: sig1=:$signature:" \
    --data-binary "@$work/question" "$target")
}

# Asks until there is an answer: the same bytes each time, signed anew.
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
      not_proven 'no answer'
    fi
    [ "$wait" = none ] || sleep "$wait"
  done
  # A refusal of somebody not yet known is not signed: read it, and believe nothing else.
  strictly verify "$ANSWER_PARTS"
  [ "$failed" = 0 ] || not_proven "HTTP $status said: $(cat "$work/body")"
  cat "$work/body"
  echo
  [ "$status" != 202 ] || echo 'not known yet: ask again' >&2
  # A refusal by the institution is an answer as well.
  [ "$status/$(field result)" != 200/REFUSED ] || { echo "refused: $(field reason)" >&2; exit 1; }
  [[ $status == 2* ]] || exit 1
}

# An order on a line: number, sum, currency; 12.3 and 12.30 are the same.
terms() {
  local line
  line="$1 $(printf '%s' "$2" | sed -E 's/(\.[0-9]*[1-9])0+$/\1/; s/\.0*$//') $3"
  [[ $line =~ ^[A-Za-z0-9_-]{1,32}' '[0-9]+(\.[0-9]+)?' '[A-Z]{3}$ ]] ||
    not_proven 'an order is NUMBER SUM, like T1 12.30'
  printf '%s\n' "$line"
}

# Before it is placed. With a database: where your orders are.
remember() {
  mkdir -p "$(dirname "$ORDERS_BOOK")"
  printf '%s\n' "$1" >>"$ORDERS_BOOK"
  sync "$ORDERS_BOOK"
}

# Whether we placed the order that $work/body tells of, for this sum in this currency.
is_ours() {
  local line
  [ "$(field merchantId)" = "$MERCHANT" ] || return 1
  line=$(terms "$(field merchantOrderNo)" "$(field orderAmount)" "$(field currency)") || return 1
  grep -qxF -e "$line" "$ORDERS_BOOK"
}

place() {
  local today line
  # The date belongs to the order: keep it, a repeat has to say the same.
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

# What happened, each event once. With a database: one transaction for the event's id and for what
# you do about it.
enter() {
  local event
  event=$(field eventId)
  [[ $event =~ ^[A-Za-z0-9_-]{1,64}$ ]] || not_proven 'it has no eventId'
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
  # Not what Host says: a notification for somebody else must not count here.
  target=$NOTICES
  [[ $line == "POST /${NOTICES#https://*/} HTTP/1.1"$'\r' ]] || not_proven "nothing is heard there"
  while IFS= read -r line && [ "$line" != $'\r' ]; do printf '%s\n' "$line"; done >>"$work/head"
  length=$(header "$work/head" content-length)
  [[ $length =~ ^[0-9]{1,5}$ ]] || not_proven 'it has no length, or too much of it'
  head -c "$length" >"$work/body"
  verify "$REQUEST_PARTS"
  is_ours || not_proven 'no order of ours, or another sum or currency'
  enter
}

# SUCCESS only when it is on the disk.
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
