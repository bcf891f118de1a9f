//! Commands given a pipe where a file is expected.

use std::path::Path;
use std::process::Command;

use paymux::command::demo::environment::DemoEnvironment;

use super::text;

/// Runs the command under a time limit, whose exit status is 124.
fn ended(words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    let ran = command
        .arg("20")
        .arg(env!("CARGO_BIN_EXE_paymux"))
        .args(words)
        .output();
    let ran = ran.unwrap();
    (ran.status.code(), text(&[ran.stdout, ran.stderr].concat()))
}

/// H1: a pipe that may never be written to blocks no command: it is refused by its name.
#[tokio::test(flavor = "multi_thread")]
async fn commands_accept_plain_files_only() {
    let stage = DemoEnvironment::start_on_free_ports("").await.unwrap();
    let folder = stage.config.parent().unwrap();
    let pipe = folder.join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let named = |path: &Path| path.to_str().unwrap().to_owned();
    let (pipe, config) = (named(&pipe), named(&stage.config));
    let key = named(&stage.certs().join("M1001-1.key"));
    let roots = named(&stage.certs().join("ca.pem"));
    let place = "call place --amount 1.00 --mobile 13800001234";
    let sign = "refunds sign --merchant M1001 --refund R01M8NW6V6MPXHXEC8CPVD3HE1K --failed \
                --key-id a";
    for words in [
        "audit verify --file PIPE".to_owned(),
        format!("{place} --key PIPE"),
        format!("{place} --key KEY --roots PIPE"),
        format!("{place} --key KEY --roots ROOTS --certificate PIPE"),
        format!("{sign} --statement PIPE --key KEY"),
        format!("{sign} --statement CONFIG --key PIPE"),
        "refunds decide PIPE --statement CONFIG --config CONFIG".to_owned(),
        "check --config PIPE".to_owned(),
        "explain P01M8NW6V6MPXHXEC8CPVD3HE1K --config PIPE".to_owned(),
    ] {
        let words: Vec<&str> = words
            .split_whitespace()
            .map(|word| match word {
                "PIPE" => &pipe,
                "KEY" => &key,
                "ROOTS" => &roots,
                "CONFIG" => &config,
                other => other,
            })
            .collect();
        let (code, printed) = ended(&words);
        assert!(
            !matches!(code, Some(0 | 124)) && printed.contains("plain file"),
            "{words:?}: {code:?} {printed}"
        );
    }
    // A store that a configuration names.
    let written = std::fs::read_to_string(&stage.config).unwrap();
    let at = written.find("url = \"sqlite:").unwrap();
    let end = at + written[at..].find('\n').unwrap();
    let text = format!(
        "{}url = \"sqlite:{pipe}\"{}",
        &written[..at],
        &written[end..]
    );
    std::fs::write(&stage.config, text).unwrap();
    let order = "P01M8NW6V6MPXHXEC8CPVD3HE1K";
    for words in [&["audit", "verify"][..], &["explain", order], &["serve"]] {
        let words = [words, &["--config", &config]].concat();
        let (code, printed) = ended(&words);
        assert!(!matches!(code, Some(0 | 124)), "{words:?}: {printed}");
    }
}
