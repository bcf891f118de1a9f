//! What the programs are refused, and what they refuse to send; and tools that are too old for
//! them.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use paymux::command::demo::enrolment::RED;
use paymux::command::demo::environment::TemporaryFolder;

use super::program::Program;
use super::{ClientTestbed, ED25519, PAYER};
use crate::tidy::tree;

/// Payer numbers that would inject fields if they were not sent as strings.
const SAYING_MORE: [&str; 2] = [
    r#"13800000000","currency":"MOP"#,
    r#"13800000000","attach":"more"#,
];

/// A refusal has its own exit status, be it the institution's or the gateway's.
async fn reports_refusals(program: Program) {
    let scene = ClientTestbed::set(ED25519).await;
    scene.done(program, &["place", "T1", "12.68", PAYER]).await;
    let refused = scene.run(program, &["select", "T1", RED.id]).await;
    assert_eq!(refused.out["result"], "REFUSED", "{}", refused.err);
    let reason = refused.out["reason"].as_str().unwrap();
    assert_eq!(refused.err.trim_end(), format!("refused: {reason}"));
    assert_eq!(refused.status, 1);

    for mobile in SAYING_MORE {
        let printed = scene.run(program, &["place", "T2", "12.30", mobile]).await;
        assert_eq!(
            (printed.status, &printed.out["field"]),
            (1, &"mobileNo".into())
        );
    }
    let text = scene.run(program, &["query", r#"T1","version":"1"#]).await;
    assert_eq!(
        (text.status, &text.out["field"]),
        (1, &"merchantOrderNo".into())
    );
    let text = scene
        .run(program, &["select", "T1", r#"redpay","mode":"NATIVE"#])
        .await;
    assert_eq!(
        (text.status, &text.out["field"]),
        (1, &"institutionId".into())
    );
    // Not even sent: it could not be compared with the reply.
    let printed = scene.run(program, &["place", "T3", "12,30", PAYER]).await;
    assert_eq!((printed.status, printed.out), (3, serde_json::Value::Null));
}

/// R-6.3.1-1a: a refusal is no success, and nothing a payer writes becomes a field of an order.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_reports_refusals() {
    reports_refusals(Program::Python).await;
}

/// R-6.3.1-1a: the same in Node.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_reports_refusals() {
    reports_refusals(Program::Node).await;
}

/// R-6.3.1-1a: the same in a shell, which knows no JSON.
#[tokio::test(flavor = "multi_thread")]
async fn the_curl_client_reports_refusals() {
    reports_refusals(Program::Curl).await;
}

/// R-6.3.1-1a: the same in Java.
#[tokio::test(flavor = "multi_thread")]
async fn the_java_client_reports_refusals() {
    reports_refusals(Program::Compiled).await;
}

/// Q2: if the named authorities cannot be read, no others are trusted instead, not even those that
/// would do.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_authorities_are_trusted() {
    let mut scene = ClientTestbed::set(ED25519).await;
    for (name, value) in [
        ("PAYMUX_ROOTS", "certs/mistyped.pem"),
        ("NODE_EXTRA_CA_CERTS", "certs/ca.pem"),
        ("REQUESTS_CA_BUNDLE", "certs/ca.pem"),
        ("CURL_CA_BUNDLE", "certs/ca.pem"),
        ("SSL_CERT_FILE", "certs/ca.pem"),
    ] {
        scene.around.variables.push((name, value.to_owned()));
    }
    for program in [
        Program::Python,
        Program::Node,
        Program::Curl,
        Program::Compiled,
    ] {
        let printed = scene.run(program, &["query", "T1"]).await;
        assert_eq!(
            printed.status, 3,
            "{program:?}: {} {}",
            printed.out, printed.err
        );
        assert!(printed.err.contains("mistyped.pem"), "{}", printed.err);
    }
}

/// A tool that is too old for the tests is named at once, with its version and the expected one.
#[test]
fn a_tool_that_is_too_old_is_named() {
    for (tool, prints, found, least) in [
        ("python3", "3.10.12", "Python 3.10.12", "3.11"),
        ("node", "v16.20.2", "Node 16.20.2", "18"),
        ("javac", "javac 11.0.2", "Java 11.0.2", "17"),
    ] {
        let folder = TemporaryFolder::make().unwrap();
        let old = folder.path().join(tool);
        std::fs::write(&old, format!("#!/bin/sh\necho {prints}\n")).unwrap();
        std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut path = folder.path().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut versions = Command::new("make");
        versions.arg("versions").current_dir(tree::root());
        let made = versions.env("PATH", path).env_remove("MAKEFLAGS").output();
        let made = made.unwrap();
        let printed = String::from_utf8_lossy(&made.stderr);
        let expected = format!("too old: {found}, expected {least} or later");
        assert!(
            !made.status.success() && printed.contains(&expected),
            "{printed}"
        );
    }
}
