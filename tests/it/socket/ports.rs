//! Ports for tests that listen: each is given out once, so that two tests of this process never get
//! the same one between finding it free and listening there.

use std::collections::HashSet;
use std::sync::Mutex;

use paymux::command::demo::ports::Ports;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

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

/// Seven ports that nobody listens on and no other test was given.
pub(crate) fn free() -> Ports {
    loop {
        let ports = Ports::free().unwrap();
        let mut given = GIVEN.lock().unwrap();
        let given = given.get_or_insert_default();
        if each(&ports).iter().all(|port| !given.contains(port)) {
            given.extend(each(&ports));
            return ports;
        }
    }
}

/// Among so many drawn at random some would be equal.
#[test]
fn no_port_is_given_out_twice() {
    let drawn: Vec<_> = (0..100).flat_map(|_| each(&free())).collect();
    let different: HashSet<_> = drawn.iter().collect();
    assert_eq!(different.len(), drawn.len());
}
