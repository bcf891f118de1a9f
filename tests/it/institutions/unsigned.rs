//! Bytes that the institution did not sign.

use bytes::Bytes;

use super::recorded::describe;
use super::rig::{message_of, reached, read_message};
use super::{on_all, proves_nothing_unsigned};

/// How many damaged messages are made of each recording.
const DAMAGED: usize = 40;

/// C1, E5: without the institution's key no bytes prove anything, however they are damaged.
#[test]
fn no_bytes_without_the_key_prove_anything() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap()
    };
    let draw = std::cell::RefCell::new(&mut draw);
    let drawn = || (draw.borrow_mut())();
    on_all(|rig, recording| {
        let order = recording.order();
        let call = recording.call(&order);
        let call = call.map(|call| (call, reached(rig, recording, &call)));
        let content = Bytes::copy_from_slice(recording.body());
        let mut message = message_of(rig, recording, call.as_ref(), content, None);
        let whole = message.body().clone();
        for _ in 0..DAMAGED {
            let mut body = whole.to_vec();
            for _ in 0..=drawn() % 8 {
                let (from, to) = (drawn() % body.len(), drawn() % body.len());
                match drawn() % 4 {
                    0 => body[to] = u8::try_from(drawn() % 256).unwrap(),
                    1 => body.swap(from, to),
                    2 => body.insert(to, b"{}\"&=%+,:[]\\"[drawn() % 12]),
                    _ => body.truncate(to.max(2)),
                }
            }
            *message.body() = body.into();
            let read = read_message(rig, call.as_ref(), &message);
            let (file, found) = (&recording.file, describe(&read));
            let is_nothing = proves_nothing_unsigned(rig, recording, &read);
            assert!(is_nothing, "{file}: {found}: {:?}", message.body());
        }
    });
}
