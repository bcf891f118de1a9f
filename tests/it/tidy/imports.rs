//! Which module may import which, and where each library may be named: the layout's table, held as
//! data.

use super::tree::{SourceFile, code};
use super::{is_name, module, none, occurrences, ours};

/// By the first name of a path under `src/`. A module may always name itself.
const IMPORTS: &str = "
    main        -> command log
    lib         ->
    command     -> api config crypto domain edge files flow health institution limits log metrics outbound run sandbox seal signature store terminal workers world
    run         -> api config domain edge files flow health institution limits log metrics outbound seal signature store workers world
    config      -> crypto domain files flow institution seal signature world
    edge        -> api crypto domain limits metrics
    api         -> crypto domain flow institution metrics store world
    workers     -> domain flow institution metrics store world
    flow        -> crypto domain health institution limits signature store world
    store       -> crypto domain files seal
    institution -> crypto domain signature
    outbound    -> domain metrics world
    limits      -> domain metrics world
    world       -> crypto domain health
    health      -> domain
    files       ->
    sandbox     -> crypto signature
    domain      -> crypto
    signature   -> crypto
    seal        -> crypto
    crypto      ->
    metrics     -> log
    log         -> terminal
    terminal    ->
";

/// Counterparts of institutions are written from the wire formats alone: what a folder of `sandbox/`
/// may name beside itself, so that no fault of an adapter is repeated by its judge.
const COUNTERPARTS: &str = "
    sandbox/unionpay -> crypto sandbox::authority sandbox::clock sandbox::exchange sandbox::html sandbox::refusal sandbox::server sandbox::watched
    sandbox/wechatpay -> crypto sandbox::authority sandbox::clock sandbox::exchange sandbox::html sandbox::refusal sandbox::server sandbox::watched
    sandbox/alipay -> crypto sandbox::authority sandbox::clock sandbox::exchange sandbox::html sandbox::refusal sandbox::server sandbox::watched
";

/// To replace a library is a change to one place: its name, and the files or directories that may
/// use it.
const HOMES: &str = "
    aes_gcm            -> crypto
    anyhow             -> main command run
    arc_swap           -> edge limits run
    aws_lc_rs          -> crypto
    clap               -> main command
    encoding_rs        -> sandbox
    flate2             -> sandbox
    form_urlencoded    -> flow/exchange_log institution/alipay sandbox
    governor           -> limits
    http_body_util     -> outbound sandbox
    hyper              -> outbound sandbox
    hyper_util         -> outbound sandbox
    md5                -> crypto
    moka               -> store/nonce_cache
    p12_keystore       -> crypto/pkcs12 crypto/tests
    pingora            -> edge
    pingora_core       -> edge
    ppp                -> edge/trusted_proxies
    prometheus         -> metrics
    qrcode             -> api/page/qr_code
    rcgen              -> command/keys crypto/tests sandbox/authority sandbox/unionpay/crypto
    rusqlite           -> store/sqlite
    rust_decimal       -> domain/amount
    rustix             -> files outbound/dial run/machine world
    sfv                -> signature
    signal_hook        -> run/signals
    sm2                -> crypto
    sm3                -> crypto
    sm4                -> crypto
    tokio_rustls       -> outbound sandbox
    toml               -> config
    tracing_subscriber -> main
    webpki             -> crypto/certificate
    webpki_roots       -> outbound
    x509_parser        -> config command/development crypto/certificate edge/identity sandbox/unionpay/crypto
    zip                -> sandbox
    zstd               -> store/sqlite
";

fn table(text: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    text.lines()
        .filter_map(|line| line.split_once("->"))
        .map(|(from, to)| (from.trim(), to.split_whitespace().collect()))
}

/// First names after `crate::` (in `main.rs`, which is a crate of its own, after `paymux::`).
fn modules_named(code: &str) -> Vec<String> {
    let mut named = Vec::new();
    for root in ["crate::", "paymux::"] {
        for (before, after) in occurrences(code, root) {
            if before.ends_with("::") {
                continue;
            }
            if let Some(group) = after.strip_prefix('{') {
                named.extend(group_heads(group));
            } else {
                named.push(
                    after
                        .chars()
                        .take_while(|message| is_name(*message))
                        .collect(),
                );
            }
        }
    }
    named
}

/// `domain::{A, B}, world}` names `domain` and `world`.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = vec![String::new()];
    let mut depth = 0_usize;
    let mut in_head = true;
    for message in group.chars() {
        match message {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(String::new());
                in_head = true;
            }
            ':' => in_head = false,
            _ if depth == 0 && in_head && is_name(message) => {
                heads.last_mut().expect("starts with one").push(message);
            }
            _ => (),
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// What a counterpart names that it must not share.
fn counterpart_faults(file: &SourceFile) -> Vec<String> {
    let inside = file.path.trim_start_matches("src/");
    let found = table(COUNTERPARTS).find(|(folder, _)| {
        let below = inside.strip_prefix(folder);
        below.is_some_and(|below| below == ".rs" || below.starts_with('/'))
    });
    let Some((folder, allowed)) = found else {
        return Vec::new();
    };
    let own = folder.replace('/', "::");
    let code = code(file.production());
    let mut faults = Vec::new();
    for (before, after) in occurrences(&code, "crate::") {
        let path: String = after
            .chars()
            .take_while(|letter| is_name(*letter) || *letter == ':')
            .collect();
        let begins = |with: &str| path == with || path.starts_with(&format!("{with}::"));
        let is_ours = begins(&own) || allowed.iter().any(|part| begins(part));
        if !before.ends_with("::") && !is_ours {
            faults.push(format!("{}: a counterpart names {path:?}", file.path));
        }
    }
    faults
}

fn import_faults(file: &SourceFile) -> Vec<String> {
    let Some(from) = module(&file.path) else {
        return Vec::new();
    };
    let Some((_, allowed)) = table(IMPORTS).find(|(name, _)| *name == from) else {
        return vec![format!("{}: {from} is not in the import table", file.path)];
    };
    let inside = file.path.trim_start_matches("src/");
    let code = code(file.production());
    let mut faults: Vec<String> = modules_named(&code)
        .into_iter()
        .filter(|to| to != from && !allowed.contains(&to.as_str()))
        .map(|to| format!("{}: {from} may not import {to:?}", file.path))
        .collect();
    let depth = file.path.matches('/').count() - usize::from(file.path.ends_with("/mod.rs"));
    if occurrences(&code, &"super::".repeat(depth))
        .next()
        .is_some()
    {
        faults.push(format!(
            "{}: paths across modules start with crate::",
            file.path
        ));
    }
    for (library, homes) in table(HOMES) {
        let at_home = homes.iter().any(|home| {
            let below = inside.strip_prefix(home);
            below.is_some_and(|below| below == ".rs" || below.starts_with('/'))
        });
        let named = occurrences(&code, library).any(|(before, after)| {
            let imported = before.trim_end().ends_with("use") && after.starts_with([';', ' ']);
            !before.ends_with("::") && (after.starts_with("::") || imported)
        });
        if named && !at_home {
            faults.push(format!(
                "{}: {library} is named only in {}",
                file.path,
                homes.join(", ")
            ));
        }
    }
    faults
}

#[test]
fn imports_follow_the_layout() {
    let faults: Vec<String> = ours().iter().flat_map(import_faults).collect();
    none(&faults);
}

#[test]
fn counterparts_share_nothing_with_adapters() {
    none(
        &ours()
            .iter()
            .flat_map(counterpart_faults)
            .collect::<Vec<_>>(),
    );
    for (path, text, faults) in [
        (
            "src/sandbox/alipay/calls.rs",
            "use crate::institution::Call;",
            1,
        ),
        (
            "src/sandbox/alipay/calls.rs",
            "use crate::sandbox::institution::x;",
            1,
        ),
        (
            "src/sandbox/alipay/calls.rs",
            "use crate::sandbox::wechatpay::x;",
            1,
        ),
        (
            "src/sandbox/wechatpay/mod.rs",
            "use crate::{crypto, domain};",
            1,
        ),
        (
            "src/sandbox/alipay/calls.rs",
            "use crate::sandbox::alipay::{form};",
            0,
        ),
        ("src/sandbox/alipay/calls.rs", "use crate::crypto::rsa;", 0),
        ("src/sandbox/merchant.rs", "use crate::signature::Key;", 0),
    ] {
        let file = SourceFile::new(path, text);
        assert_eq!(counterpart_faults(&file).len(), faults, "{path}: {text}");
    }
}

#[test]
fn a_wrong_import_is_found() {
    for (path, text) in [
        ("src/domain/order.rs", "use crate::world::Clock;"),
        (
            "src/flow/place_order.rs",
            "use crate::{domain::{Order, Amount},\n  seal};",
        ),
        (
            "src/flow/place_order.rs",
            "fn f() { let x = crate::api::answer(); }",
        ),
        ("src/limits.rs", "use super::store::Store;"),
        ("src/flow/place_order.rs", "use super::super::edge;"),
        ("src/store/mod.rs", "use super::domain;"),
        ("src/main.rs", "use paymux::run;"),
        ("src/workers.rs", "use crate::edge::Listener;"),
        ("src/console/mod.rs", "fn f() {}"),
        ("src/api/mod.rs", "use pingora_core::server::Server;"),
        ("src/seal.rs", "use aws_lc_rs::aead::AES_256_GCM;"),
        ("src/institution/standard.rs", "use sm2::SecretKey;"),
        ("src/command/keys.rs", "use p12_keystore::KeyStore;"),
        ("src/crypto/rsa.rs", "use crate::signature::Algorithm;"),
        ("src/flow/answer.rs", "use hyper;"),
        ("src/store/mod.rs", "fn f(x: rusqlite::Connection) {}"),
        ("src/store/ringing.rs", "use moka::sync::Cache;"),
        ("src/domain/statement/mod.rs", "use rust_decimal::Decimal;"),
        ("src/api/mod.rs", "use governor as limits;"),
    ] {
        assert_eq!(
            import_faults(&SourceFile::new(path, text)).len(),
            1,
            "{path}: {text}"
        );
    }
}

#[test]
fn a_right_import_passes() {
    for (path, text) in [
        (
            "src/domain/order.rs",
            "use crate::domain::Amount;\nuse super::refund::Refund;",
        ),
        (
            "src/flow/place_order.rs",
            "use crate::{domain::{seal, Amount}, world::World};",
        ),
        (
            "src/flow/place_order.rs",
            "// crate::seal\nconst A: &str = \"crate::seal\";",
        ),
        ("src/store/sqlite.rs", "use rusqlite::Connection;"),
        ("src/crypto/digest.rs", "use aws_lc_rs::digest::SHA256;"),
        (
            "src/outbound.rs",
            "use hyper::Uri;\nlet x = hyper_util::f();",
        ),
        (
            "src/seal.rs",
            "#[cfg(test)]\nmod tests {\n    use super::*;\n}",
        ),
        (
            "src/main.rs",
            "rustls::crypto::aws_lc_rs::default_provider();\nuse paymux::command;",
        ),
        ("tests/it/order.rs", "use paymux::domain::Order;"),
    ] {
        none(&import_faults(&SourceFile::new(path, text)));
    }
}
