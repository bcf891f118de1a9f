//! Multiples of a public point, worked out once: with them an Ed25519 signature of a key that calls
//! again and again is verified in some three fifths of the time. Sums public values only, so its time
//! may depend on them; never sees a secret.

use std::ops::Neg as _;
use std::sync::LazyLock;

use aws_lc_rs::digest::{Context, SHA512};
use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bits of a scalar taken at once; with six, a table has 215 KiB.
const WINDOW_BITS: usize = 6;
/// The largest multiple of a window: digits are signed, so half of what its bits can say.
const DIGIT_MAX: usize = 1 << (WINDOW_BITS - 1);
/// Windows that hold every scalar and what the last digit carries over.
const WINDOWS: usize = 256_usize.div_ceil(WINDOW_BITS);

/// Keys whose multiples are kept at once: with all of them 13 MiB of this process's memory, whoever
/// owns the keys. The others are verified by the library alone.
const KEYS_MAX: usize = 64;
static ROOM: Semaphore = Semaphore::const_new(KEYS_MAX);

/// The multiples of the base point, which every signature takes.
static BASE: LazyLock<Multiples> = LazyLock::new(|| Multiples::of(ED25519_BASEPOINT_POINT));

/// What verifying under one key takes: the key, and the multiples of its negated point.
pub(super) struct Known {
    key: [u8; 32],
    negated: Multiples,
    _room: SemaphorePermit<'static>,
}

impl Known {
    /// Works the multiples out, which takes as long as some ten verifications. `None` if there is
    /// no room, or the key is no point of the curve, or not as points are written: of such ones
    /// the library alone judges.
    pub(super) fn of(key: [u8; 32]) -> Option<Self> {
        let room = ROOM.try_acquire().ok()?;
        let point = CompressedEdwardsY(key).decompress()?;
        if point.compress().0 != key {
            return None;
        }
        Some(Self {
            key,
            negated: Multiples::of(point.neg()),
            _room: room,
        })
    }

    /// RFC 8032, section 5.1.7, without the cofactor: whether the R of the signature is, byte for
    /// byte, what s and the message make of the key. The same verdict as the library's for every
    /// input, which a test holds side by side.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Some((r, s)) = signature.split_first_chunk::<32>() else {
            return false;
        };
        let Ok(s) = <[u8; 32]>::try_from(s) else {
            return false;
        };
        // A scalar has one way to be written, or a signature had two.
        let Some(s) = Option::<Scalar>::from(Scalar::from_canonical_bytes(s)) else {
            return false;
        };
        let mut challenge = Context::new(&SHA512);
        challenge.update(r);
        challenge.update(&self.key);
        challenge.update(message);
        let digest = challenge.finish();
        let Ok(digest) = <&[u8; 64]>::try_from(digest.as_ref()) else {
            return false;
        };
        let k = Scalar::from_bytes_mod_order_wide(digest);
        let mut picked = [EdwardsPoint::identity(); 2 * WINDOWS];
        let (of_base, of_key) = picked.split_at_mut(WINDOWS);
        BASE.pick(&s, of_base);
        self.negated.pick(&k, of_key);
        let sum: EdwardsPoint = picked.iter().sum();
        sum.compress().0 == *r
    }
}

/// One to [`DIGIT_MAX`] times the point, then the same times 2^6, times 2^12 …
struct Multiples(Box<[[EdwardsPoint; DIGIT_MAX]]>);

#[expect(
    clippy::arithmetic_side_effects,
    reason = "points of a group: every sum is one of them"
)]
impl Multiples {
    fn of(point: EdwardsPoint) -> Self {
        let mut unit = point;
        let windows = (0..WINDOWS).map(|_| {
            let mut multiple = unit;
            let window = std::array::from_fn(|_| {
                let this = multiple;
                multiple += unit;
                this
            });
            // The largest of this window, doubled, is the unit of the next.
            unit = multiple - unit;
            unit += unit;
            window
        });
        Self(windows.collect())
    }

    /// Copies out the multiples that sum up to so many times the point, one for each window. All of
    /// them before the first is added: tables lie far from the processor between two requests, and so
    /// their lines are fetched side by side instead of one after another.
    fn pick(&self, scalar: &Scalar, picked: &mut [EdwardsPoint]) {
        for ((window, digit), picked) in self.0.iter().zip(digits(scalar)).zip(picked) {
            let multiple = usize::from(digit.unsigned_abs())
                .checked_sub(1)
                .and_then(|at| window.get(at));
            match multiple {
                Some(multiple) if digit > 0 => *picked = *multiple,
                Some(multiple) => *picked = -multiple,
                None => (),
            }
        }
    }
}

/// The scalar as digits from -31 to 32, the least first.
fn digits(scalar: &Scalar) -> impl Iterator<Item = i8> {
    let bytes = *scalar.as_bytes();
    let mut carried = 0_i8;
    (0..WINDOWS).map(move |window| {
        let bit = window.wrapping_mul(WINDOW_BITS);
        let byte = |at: usize| bytes.get(at).copied().map_or(0, u16::from);
        let pair = byte(bit / 8) | (byte((bit / 8).wrapping_add(1)) << 8);
        let low = (pair >> (bit % 8)) & 0b11_1111;
        let digit = i8::try_from(low).unwrap_or(0).wrapping_add(carried);
        if usize::from(digit.unsigned_abs()) > DIGIT_MAX {
            carried = 1;
            digit.wrapping_sub(1 << WINDOW_BITS)
        } else {
            carried = 0;
            digit
        }
    })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};

    use super::*;

    /// The order of the group, least byte first.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];

    fn both(key: [u8; 32], message: &[u8], signature: &[u8]) -> (bool, bool) {
        let library = ParsedPublicKey::new(&ED25519, key).unwrap();
        let ours = Known::of(key).unwrap().verifies(message, signature);
        (ours, library.verify_sig(message, signature).is_ok())
    }

    /// Q2: what was signed is believed, and whatever was altered in any bit is not; never another
    /// verdict than the library's.
    #[test]
    fn multiples_and_library_agree_on_every_altered_bit() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = pair.public_key().as_ref().try_into().unwrap();
        let known = Known::of(key).unwrap();
        let library = ParsedPublicKey::new(&ED25519, key).unwrap();
        for length in [0, 1, 63, 64, 650] {
            let message = vec![0x5a; length];
            let good = pair.sign(&message).as_ref().to_vec();
            assert!(known.verifies(&message, &good));
            for bit in 0..512 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(!known.verifies(&message, &bad), "bit {bit}");
                assert!(library.verify_sig(&message, &bad).is_err());
            }
            assert!(!known.verifies(b"another", &good));
            for length in [0, 1, 32, 63] {
                assert!(!known.verifies(&message, &good[..length]));
            }
            assert!(!known.verifies(&message, &[good.clone(), vec![0]].concat()));
        }
    }

    /// Q2: many keys, many messages, right and wrong key.
    #[test]
    fn multiples_and_library_agree_on_many_keys() {
        for seed in 0..24_u8 {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
            let other = Ed25519KeyPair::from_seed_unchecked(&[seed ^ 0x80; 32]).unwrap();
            let key = pair.public_key().as_ref().try_into().unwrap();
            for round in 0..8_u8 {
                let message = vec![round; usize::from(seed) * 11];
                assert_eq!(
                    both(key, &message, pair.sign(&message).as_ref()),
                    (true, true)
                );
                assert_eq!(
                    both(key, &message, other.sign(&message).as_ref()),
                    (false, false)
                );
            }
        }
    }

    /// Q2: a signature has one form: s and s plus the order of the group are not both good.
    #[test]
    fn a_signature_has_one_form() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
        let key: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
        let mut forged = pair.sign(b"pay").as_ref().to_vec();
        let mut carry = 0_u16;
        for (byte, more) in forged[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(more) + carry;
            *byte = u8::try_from(sum & 0xff).unwrap();
            carry = sum >> 8;
        }
        assert_eq!(both(key, b"pay", &forged), (false, false));
    }

    /// Every digit is used and every sum is right, at both ends of what a scalar can be.
    #[test]
    fn multiples_add_up() {
        let mut greatest = ORDER;
        greatest[0] -= 1;
        let greatest = Option::<Scalar>::from(Scalar::from_canonical_bytes(greatest)).unwrap();
        let half = Scalar::from_bytes_mod_order([0x55; 32]);
        for scalar in [
            Scalar::ZERO,
            Scalar::ONE,
            Scalar::from(32_u8),
            Scalar::from(33_u8),
            half,
            greatest,
        ] {
            let mut picked = [EdwardsPoint::identity(); WINDOWS];
            BASE.pick(&scalar, &mut picked);
            let sum: EdwardsPoint = picked.iter().sum();
            assert_eq!(sum, EdwardsPoint::mul_base(&scalar));
        }
    }
}
