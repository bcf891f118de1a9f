//! The endpoint table is the only place that knows the paths of the public interface.

use paymux::api::ENDPOINTS;

use super::tree::{SourceFile, literals};
use super::{module, none, ours};

/// Where the table is, and who else sees a request on its way.
const TABLE: &str = "src/api/mod.rs";
const ON_THE_WAY: &[&str] = &["api", "edge", "limits", "metrics", "run"];

fn path_faults(file: &SourceFile) -> Vec<String> {
    let is_on_the_way = module(&file.path).is_some_and(|name| ON_THE_WAY.contains(&name));
    if !is_on_the_way || file.path == TABLE {
        return Vec::new();
    }
    let names_path = |literal: &&str| {
        let fixed = |path: &'static str| path.split('{').next().unwrap_or_default();
        ENDPOINTS.iter().any(|endpoint| {
            let found = literal.match_indices(fixed(endpoint.path.text()));
            // At the beginning, or behind an origin that is written in; a file's name is no path.
            found
                .map(|(at, _)| &literal[..at])
                .any(|before| before.is_empty() || before.ends_with('}'))
        })
    };
    let found = literals(file.production()).into_iter().filter(names_path);
    found
        .map(|literal| format!("{}: {literal:?} beside the table in {TABLE}", file.path))
        .collect()
}

/// No path of the public interface stands beside the table.
#[test]
fn paths_stand_in_the_endpoint_table_only() {
    none(&ours().iter().flat_map(path_faults).collect::<Vec<_>>());
}

#[test]
fn a_path_beside_the_table_is_found() {
    for text in [
        "match path { b\"/v1/orders/query\" => 1, _ => 2 }",
        "path.strip_prefix(\"/pay/\")",
        "format!(\"{origin}/pay/***\")",
        "path == \"/.well-known/jwks.json\"",
    ] {
        let file = SourceFile::new("src/edge/a.rs", text);
        assert_eq!(path_faults(&file).len(), 1, "{text}");
    }
    for text in [
        "// \"/pay/\"\ninclude_str!(\"../../docs/openapi.yaml\")",
        "path == \"/metrics\"",
        "#[cfg(test)]\nmod tests { const A: &str = \"/pay/a\"; }",
    ] {
        none(&path_faults(&SourceFile::new("src/run/a.rs", text)));
    }
    none(&path_faults(&SourceFile::new(TABLE, "\"/v1/orders\"")));
}
