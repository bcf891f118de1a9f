//! Ports for tests that listen. Each is handed out once, so that two tests of this process never
//! get the same one between finding it free and listening on it.

use std::collections::HashSet;
use std::sync::Mutex;

use paymux::command::demo::ports::Ports;

static HANDED_OUT: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// Every port of a set.
fn each(ports: &Ports) -> [u16; 7] {
    let [first, second, third] = ports.institutions;
    let Ports {
        public,
        operations,
        tea,
        books,
        ..
    } = *ports;
    [public, operations, tea, books, first, second, third]
}

/// Seven ports that are free and that no other test has.
pub(crate) fn free() -> Ports {
    loop {
        let ports = Ports::free().unwrap();
        let mut handed_out = HANDED_OUT.lock().unwrap();
        let handed_out = handed_out.get_or_insert_default();
        if each(&ports).iter().all(|port| !handed_out.contains(port)) {
            handed_out.extend(each(&ports));
            return ports;
        }
    }
}

/// Among so many random ones some would be equal.
#[test]
fn no_port_is_handed_out_twice() {
    let drawn: Vec<_> = (0..100).flat_map(|_| each(&free())).collect();
    let different: HashSet<_> = drawn.iter().collect();
    assert_eq!(different.len(), drawn.len());
}
