//! Encryption and keyed digests of stored personal data (D2): AES-256-GCM bound to table, row and
//! column, and HMAC-SHA-256 with separate purposes. Keys have ids, so that they can be rotated and
//! destroyed. Never falls back to plain text, never generates a key (D3), never prints one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::crypto::aead::{Aes256GcmKey, NONCE_BYTES, TAG_BYTES};
use crate::crypto::compare::constant_time_eq;
use crate::crypto::hmac::HmacKey;
use crate::crypto::random;

/// The longest id of a sealing key. Unit: bytes.
pub const KEY_ID_BYTES_MAX: usize = 16;

/// First byte of all sealed data: the version of the layout.
const LAYOUT: u8 = 1;

/// Why sealing or opening failed. Never describes the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealFault {
    /// A key id is empty, too long or has other characters.
    #[error("the id of a sealing key must be 1 to 16 characters A-Z a-z 0-9 - _")]
    BadKeyId,
    /// The current key is not among the keys, or the key that sealed a field is gone (D3).
    #[error("the key this field is sealed with is not available")]
    KeyUnknown,
    /// Too short, or with an unknown layout.
    #[error("the sealed field is truncated or has an unknown layout")]
    Malformed,
    /// Altered, or moved from another table, row or column (D2).
    #[error("the sealed field was altered or moved from another place")]
    NotGenuine,
    /// The library failed: no randomness, or content too long.
    #[error("the field could not be sealed")]
    NotSealed,
}

/// Where a sealed field is stored; it cannot be opened elsewhere (D2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealBinding<'a> {
    /// The table's name.
    pub table: &'a str,
    /// The row's key, which must not change.
    pub row: &'a str,
    /// The column's name.
    pub column: &'a str,
}

impl SealBinding<'_> {
    /// Each part is preceded by its length, so that different places never give the same bytes.
    fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [self.table, self.row, self.column] {
            bytes.extend_from_slice(&length_prefix(part.len()));
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// A field that can be opened only with its key and in its place.
///
/// Format: layout (1 byte), length of the key id (1), key id, nonce (12), ciphertext, tag (16).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// The stored form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The stored form.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// The keys for sealing, opening and digests. Cannot be printed; the library wipes its copies on
/// drop. A key seals at most 2^32 fields, because nonces are random.
pub struct Seal {
    /// Replaced as a whole, so that each operation uses one consistent set of keys (F1).
    keys: RwLock<Arc<Keys>>,
    digest: HmacKey,
}

/// The keys for sealing and opening.
struct Keys {
    current: String,
    usable: BTreeMap<String, Aes256GcmKey>,
    /// HMAC of a constant text under each key, to compare keys with the same id.
    marks: BTreeMap<String, [u8; 32]>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// Creates a seal from the id of the current key, all keys, and the digest key.
    ///
    /// # Errors
    /// [`SealFault::BadKeyId`]; [`SealFault::KeyUnknown`] if the current key is not among the keys.
    pub fn new(
        current_id: &str,
        keys: BTreeMap<String, [u8; 32]>,
        digest_key: [u8; 32],
    ) -> Result<Self, SealFault> {
        let digest = HmacKey::new(&digest_key);
        let (mut usable, mut marks) = (BTreeMap::new(), BTreeMap::new());
        for (id, key) in keys {
            if !is_key_id(&id) {
                return Err(SealFault::BadKeyId);
            }
            let own = HmacKey::new(&key);
            marks.insert(id.clone(), mac(&own, "mark", "seal", b"paymux"));
            let key = Aes256GcmKey::new(&key).ok_or(SealFault::NotSealed)?;
            usable.insert(id, key);
        }
        if !usable.contains_key(current_id) {
            return Err(SealFault::KeyUnknown);
        }
        let keys = Keys {
            current: current_id.to_owned(),
            usable,
            marks,
        };
        Ok(Self {
            keys: RwLock::new(Arc::new(keys)),
            digest,
        })
    }

    /// The id of the current key.
    pub fn current(&self) -> String {
        self.keys().current.clone()
    }

    /// A value per key, by id, that distinguishes it from others and reveals nothing about it.
    pub fn marks(&self) -> BTreeMap<String, [u8; 32]> {
        self.keys().marks.clone()
    }

    /// A value that distinguishes the digest key from others and reveals nothing about it.
    pub fn digest_mark(&self) -> [u8; 32] {
        self.digest("mark", b"paymux")
    }

    /// Whether everything sealed and digested with these keys stays readable with the other ones.
    pub fn is_kept_by(&self, next: &Self) -> bool {
        let marks = next.marks();
        self.digest_mark() == next.digest_mark()
            && (self.marks().iter()).all(|(id, mark)| marks.get(id) == Some(mark))
    }

    /// Uses the other keys from now on (F1).
    ///
    /// # Errors
    /// [`SealFault::KeyUnknown`] if a present key is missing there: fields may be sealed with it;
    /// nothing changes.
    pub fn renew(&self, next: &Self) -> Result<(), SealFault> {
        if !self.is_kept_by(next) {
            return Err(SealFault::KeyUnknown);
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = next.keys();
        Ok(())
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Seals a field for its place, with the current key and a fresh random nonce (D2).
    ///
    /// # Errors
    /// [`SealFault::NotSealed`]: store nothing then.
    pub fn seal(&self, place: SealBinding<'_>, plain: &[u8]) -> Result<Sealed, SealFault> {
        let keys = self.keys();
        let current = &keys.current;
        let key = keys.usable.get(current).ok_or(SealFault::KeyUnknown)?;
        let id_length = u8::try_from(current.len()).map_err(|_| SealFault::BadKeyId)?;
        let mut nonce = [0; NONCE_BYTES];
        random::fill(&mut nonce).map_err(|_| SealFault::NotSealed)?;
        let content = key
            .seal(nonce, &place.bytes(), plain)
            .ok_or(SealFault::NotSealed)?;
        let head = [LAYOUT, id_length];
        Ok(Sealed(
            [&head, current.as_bytes(), &nonce, &content].concat(),
        ))
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// [`SealFault::KeyUnknown`], [`SealFault::Malformed`], [`SealFault::NotGenuine`].
    pub fn open(&self, place: SealBinding<'_>, sealed: &[u8]) -> Result<Vec<u8>, SealFault> {
        let (id, nonce, content) = parts(sealed).ok_or(SealFault::Malformed)?;
        let keys = self.keys();
        let key = keys.usable.get(id).ok_or(SealFault::KeyUnknown)?;
        key.open(nonce, &place.bytes(), content)
            .ok_or(SealFault::NotGenuine)
    }

    /// A keyed digest that finds equal values without revealing them; separate per purpose.
    pub fn digest(&self, purpose: &str, value: &[u8]) -> [u8; 32] {
        mac(&self.digest, "digest", purpose, value)
    }

    /// A short proof that we issued this value for this purpose: for links and codes.
    pub fn token(&self, purpose: &str, value: &[u8]) -> [u8; 16] {
        let tag = mac(&self.digest, "token", purpose, value);
        let mut token = [0; 16];
        for (to, from) in token.iter_mut().zip(tag) {
            *to = from;
        }
        token
    }

    /// Whether a token is ours for this value and purpose, in constant time.
    pub fn verify_token(&self, purpose: &str, value: &[u8], token: &[u8]) -> bool {
        constant_time_eq(&self.token(purpose, value), token)
    }
}

/// Use and purpose are part of the input, so that no result is valid for two of them.
fn mac(key: &HmacKey, usage: &str, purpose: &str, value: &[u8]) -> [u8; 32] {
    key.sign_parts(&[
        usage.as_bytes(),
        &[0],
        &length_prefix(purpose.len()),
        purpose.as_bytes(),
        value,
    ])
}

/// Splits sealed data into key id, nonce, and ciphertext with tag.
fn parts(sealed: &[u8]) -> Option<(&str, [u8; NONCE_BYTES], &[u8])> {
    let [LAYOUT, id_length, rest @ ..] = sealed else {
        return None;
    };
    let (id, rest) = rest.split_at_checked(usize::from(*id_length))?;
    let id = std::str::from_utf8(id).ok().filter(|id| is_key_id(id))?;
    let (nonce, content) = rest.split_first_chunk::<NONCE_BYTES>()?;
    (content.len() >= TAG_BYTES).then_some((id, *nonce, content))
}

fn is_key_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=KEY_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(plain)
}

fn length_prefix(length: usize) -> [u8; 8] {
    // No text in memory is longer than 64 bits can express.
    u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHONE: SealBinding<'_> = SealBinding {
        table: "orders",
        row: "P2026000001",
        column: "mobile_no",
    };

    fn seal(current: &str, ids: &[(&str, u8)]) -> Seal {
        let keys = ids
            .iter()
            .map(|(id, byte)| ((*id).to_owned(), [*byte; 32]))
            .collect();
        Seal::new(current, keys, [9; 32]).unwrap()
    }

    /// D2
    #[test]
    fn a_sealed_field_opens_in_its_place() {
        let seal = seal("2026-11", &[("2026-11", 1)]);
        for plain in [&b"13800000000"[..], b""] {
            let sealed = seal.seal(PHONE, plain).unwrap();
            assert_eq!(seal.open(PHONE, sealed.as_bytes()), Ok(plain.to_vec()));
        }
    }

    /// D3, F1: keys may be added, and another one made current, at runtime; none may be lost or
    /// replaced, because fields are sealed with it.
    #[test]
    fn keys_are_added_and_never_lost() {
        let seal = seal("a", &[("a", 1)]);
        let old = seal.seal(PHONE, b"13800000000").unwrap();
        let (one, two) = (("a", 1), ("b", 2));
        seal.renew(&self::seal("b", &[one, two])).unwrap();
        let new = seal.seal(PHONE, b"13900000000").unwrap();
        assert_eq!(parts(new.as_bytes()).unwrap().0, "b");
        for sealed in [&old, &new] {
            assert!(seal.open(PHONE, sealed.as_bytes()).is_ok());
        }
        let keys = BTreeMap::from([("a".to_owned(), [1; 32]), ("b".to_owned(), [2; 32])]);
        let digests_otherwise = Seal::new("b", keys, [8; 32]).unwrap();
        let lost = self::seal("b", &[two]);
        let replaced = self::seal("b", &[("a", 3), two]);
        for next in [lost, replaced, digests_otherwise] {
            assert_eq!(seal.renew(&next), Err(SealFault::KeyUnknown));
        }
        assert!(seal.open(PHONE, old.as_bytes()).is_ok());
    }

    /// D2
    #[test]
    fn the_same_field_never_seals_to_the_same_bytes() {
        let seal = seal("k", &[("k", 1)]);
        assert_ne!(
            seal.seal(PHONE, b"1").unwrap(),
            seal.seal(PHONE, b"1").unwrap()
        );
    }

    /// D2
    #[test]
    fn a_sealed_field_does_not_open_elsewhere() {
        let seal = seal("k", &[("k", 1)]);
        let sealed = seal.seal(PHONE, b"13800000000").unwrap();
        for elsewhere in [
            SealBinding {
                table: "refunds",
                ..PHONE
            },
            SealBinding {
                row: "P2026000002",
                ..PHONE
            },
            SealBinding {
                column: "payer",
                ..PHONE
            },
            SealBinding {
                table: "ordersP",
                row: "2026000001",
                ..PHONE
            },
        ] {
            assert_eq!(
                seal.open(elsewhere, sealed.as_bytes()),
                Err(SealFault::NotGenuine)
            );
        }
    }

    /// D2
    #[test]
    fn one_flipped_bit_is_detected_wherever_it_is() {
        let seal = seal("k", &[("k", 1)]);
        let sealed = seal.seal(PHONE, b"13800000000").unwrap().into_bytes();
        for place in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[place] ^= 1 << bit;
                assert!(
                    seal.open(PHONE, &changed).is_err(),
                    "byte {place}, bit {bit}"
                );
            }
        }
    }

    /// D2
    #[test]
    fn a_truncated_field_does_not_open() {
        let seal = seal("k", &[("k", 1)]);
        let sealed = seal.seal(PHONE, b"13800000000").unwrap().into_bytes();
        for length in 0..sealed.len() {
            assert!(
                seal.open(PHONE, &sealed[..length]).is_err(),
                "{length} bytes"
            );
        }
        assert_eq!(seal.open(PHONE, &sealed[..20]), Err(SealFault::Malformed));
    }

    /// D3
    #[test]
    fn a_field_does_not_open_without_its_key() {
        let sealed = seal("old", &[("old", 1)]).seal(PHONE, b"1").unwrap();
        let after = seal("new", &[("new", 2), ("old", 1)]);
        assert_eq!(after.open(PHONE, sealed.as_bytes()), Ok(b"1".to_vec()));
        let destroyed = seal("new", &[("new", 2)]);
        assert_eq!(
            destroyed.open(PHONE, sealed.as_bytes()),
            Err(SealFault::KeyUnknown)
        );
        let another = seal("old", &[("old", 3)]);
        assert_eq!(
            another.open(PHONE, sealed.as_bytes()),
            Err(SealFault::NotGenuine)
        );
    }

    /// D3
    #[test]
    fn there_is_no_seal_without_its_current_key() {
        let none = Seal::new("k", BTreeMap::new(), [0; 32]);
        assert_eq!(none.unwrap_err(), SealFault::KeyUnknown);
        for id in ["", "seventeen-letters", "ü"] {
            let keys = BTreeMap::from([(id.to_owned(), [1; 32])]);
            assert_eq!(
                Seal::new(id, keys, [0; 32]).unwrap_err(),
                SealFault::BadKeyId
            );
        }
    }

    /// D2
    #[test]
    fn digests_differ_by_purpose_value_and_key() {
        let seal = seal("k", &[("k", 1)]);
        let digest = seal.digest("payer", b"13800000000");
        assert_eq!(digest, seal.digest("payer", b"13800000000"));
        assert_ne!(digest, seal.digest("content", b"13800000000"));
        assert_ne!(digest, seal.digest("payer1", b"3800000000"));
        let keys = BTreeMap::from([("k".to_owned(), [1; 32])]);
        let other = Seal::new("k", keys, [8; 32]).unwrap();
        assert_ne!(digest, other.digest("payer", b"13800000000"));
    }

    ///
    #[test]
    fn a_token_counts_for_its_value_and_purpose_alone() {
        let seal = seal("k", &[("k", 1)]);
        let token = seal.token("page", b"P2026000001");
        assert!(seal.verify_token("page", b"P2026000001", &token));
        assert!(!seal.verify_token("page", b"P2026000002", &token));
        assert!(!seal.verify_token("card", b"P2026000001", &token));
        assert!(!seal.verify_token("page", b"P2026000001", &token[..15]));
        assert!(!seal.verify_token("page", b"P2026000001", b""));
        assert_ne!(token, seal.digest("page", b"P2026000001")[..16]);
    }

    /// D1
    #[test]
    fn a_seal_cannot_be_printed() {
        let seal = seal("k", &[("k", 1)]);
        assert_eq!(format!("{seal:?}"), "Seal");
        let sealed = seal.seal(PHONE, b"1").unwrap();
        assert_eq!(
            format!("{sealed:?}"),
            format!("Sealed({} bytes)", sealed.as_bytes().len())
        );
    }
}
