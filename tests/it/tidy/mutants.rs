//! The safety checks that `make mutants` removes must be where its table says they are.

use toml::{Table, Value};

use super::tree;

const MUTANTS: &str = "tests/mutants/mutants.toml";

/// A mutant whose text is gone would remove nothing, and prove nothing.
#[test]
fn every_mutant_finds_what_it_removes() {
    let table: Table = toml::from_str(&tree::read(MUTANTS)).unwrap();
    let mutants = table["mutant"].as_array().unwrap();
    assert!(mutants.len() >= 3);
    for mutant in mutants {
        let text = |name: &str| mutant[name].as_str().unwrap().trim_matches('\n');
        let file = text("file");
        let count = tree::read(file).matches(text("from")).count();
        assert_eq!(count, 1, "{MUTANTS}: {} in {file}", text("takes_out"));
        assert_ne!(text("from"), text("to"), "{}", text("takes_out"));
        let names = mutant.as_table().into_iter().flat_map(Table::keys);
        let known = ["file", "from", "takes_out", "to"];
        assert!(names.eq(known), "{:?}", Value::as_table(mutant));
    }
}
