//! How the bundled `SQLite` was built (`.cargo/config.toml`).

use std::collections::BTreeSet;

use super::embedded::Embedded;

/// S1: the `SQLite` that the store runs on is the one that was measured: one thread for each connection,
/// no count of memory, no second check of calls that rusqlite makes right.
#[test]
fn sqlite_is_built_as_it_was_measured() {
    let options = Embedded::new().built();
    let is = |option: &str| options.contains(option);
    let arrived = is("THREADSAFE=2") && is("DEFAULT_MEMSTATUS=0") && !is("ENABLE_API_ARMOR");
    assert!(
        arrived,
        "expected THREADSAFE=2 and DEFAULT_MEMSTATUS=0 and no ENABLE_API_ARMOR, found {options:?}: \
         LIBSQLITE3_FLAGS of .cargo/config.toml did not arrive. Cargo reads that file only when it \
         is started in the checkout, and a variable of that name in the environment wins over it: \
         build there, without it"
    );
}

impl Embedded {
    /// What this program's `SQLite` says of itself, on a connection to a store's file.
    fn built(&self) -> BTreeSet<String> {
        drop(super::Stores::open(self));
        let look = self.look();
        let mut asked = look.prepare("PRAGMA compile_options").unwrap();
        let options = asked.query_map([], |row| row.get(0)).unwrap();
        options.collect::<Result<_, _>>().unwrap()
    }
}
