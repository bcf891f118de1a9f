//! What commands print, and on which stream.

use std::process::Stdio;

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX};
use paymux::signature::SigningKey;
use serde_json::json;

use super::{paymux, ran, text};
use crate::journey::{client, open, order, placed};

/// With standard output closed a command exits at once, prints nothing, and has its own exit
/// status.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_a_closed_pipe_exits_quietly() {
    let stage = DemoEnvironment::start_on_free_ports("").await.unwrap();
    for words in [&["check"][..], &["keys", "list"], &["keys", "show"]] {
        // The reader is closed before the command begins: one that closes later may be too late.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = paymux(words, &stage.config);
        command.stdout(writer).stderr(Stdio::piped());
        command.env("RUST_BACKTRACE", "1");
        let child = command.spawn().unwrap();
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        let ended = ended.await.unwrap();
        assert_eq!(text(&ended.stderr), "", "{words:?}");
        assert_eq!(ended.status.code(), Some(141), "{words:?}");
    }
}

/// A command that fails prints the reason and the remedy in one or two lines, never a backtrace,
/// whatever the environment asks for.
#[tokio::test(flavor = "multi_thread")]
async fn a_commands_error_is_a_line_or_two() {
    let stage = DemoEnvironment::start_on_free_ports("").await.unwrap();
    let faulty = stage.config.with_file_name("faulty.toml");
    let right = std::fs::read_to_string(&stage.config).unwrap();
    std::fs::write(&faulty, right.replace("[store]", "[stroe]")).unwrap();
    let absent = stage.config.with_file_name("absent.toml");
    for (words, config) in [
        (&["reload"][..], &stage.config),
        (&["refunds", "manual"], &stage.config),
        (&["breaks", "list"], &stage.config),
        (&["events", "dead"], &stage.config),
        (&["explain", "M1001/T1"], &stage.config),
        (&["audit", "verify"], &absent),
        (&["explain", "M1001/T1"], &faulty),
        (&["serve"], &faulty),
        (&["serve"], &absent),
        (&["keys", "dev"], &absent),
        (
            &[
                "reconcile",
                "--institution",
                "bluebank",
                "--date",
                "2026-01-01",
            ],
            &absent,
        ),
    ] {
        for backtrace in ["0", "full"] {
            let mut command = paymux(words, config);
            command.env("RUST_BACKTRACE", backtrace);
            let output = ran(command).await;
            let printed = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{words:?}: {printed}");
            assert!(
                (1..=2).contains(&printed.lines().count()),
                "{words:?}: {printed}"
            );
            assert!(
                !printed.contains("backtrace") && !printed.contains("Caused by"),
                "{printed}"
            );
        }
    }
}

/// A required choice that was not made is an error that lists every choice; none is the default.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_choice_is_a_usage_error() {
    let sign = "refunds sign --merchant M1001 --refund R00000000000000000000000000 --statement s --key k --key-id k-1";
    for (words, named) in [
        (sign, "<--succeeded|--failed>"),
        (
            "events resend",
            "<--merchant <MERCHANT>|--event <EVENT>|--all>",
        ),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_paymux"));
        command.args(words.split_whitespace());
        let output = ran(command).await;
        let printed = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {printed}");
        let is_printed = |(at, line): (usize, &str)| at < 2 && line.contains(named);
        assert!(printed.lines().enumerate().any(is_printed), "{printed}");
        let usage = printed.lines().find(|line| line.starts_with("Usage:"));
        assert!(usage.is_some_and(|line| line.contains(named)), "{printed}");
    }
}

/// Faults that a command found have their own exit status.
#[tokio::test(flavor = "multi_thread")]
async fn faults_found_have_their_own_exit_status() {
    let stage = DemoEnvironment::start_on_free_ports("").await.unwrap();
    let output = ran(paymux(&["check"], &stage.config)).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let right = std::fs::read_to_string(&stage.config).unwrap();
    std::fs::write(&stage.config, right + "\n[nonsense]\n").unwrap();
    for words in [&["check"][..], &["keys", "list"], &["keys", "show"]] {
        let output = ran(paymux(words, &stage.config)).await;
        assert_eq!(output.status.code(), Some(3), "{words:?}");
        assert!(text(&output.stdout).contains("nonsense"), "{words:?}");
    }
    for words in [
        &["--help"][..],
        &["check", "--help"],
        &["refunds", "decide", "--help"],
    ] {
        let help = ran(paymux(words, &stage.config)).await;
        let help = text(&help.stdout);
        let is_printed = help.contains("Exit status:") && help.contains("141");
        assert!(is_printed, "{words:?}: {help}");
    }
}

/// F1: a path written in another way that means the same file is no difference.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_compared_by_what_it_means() {
    let stage = DemoEnvironment::start_on_free_ports("").await.unwrap();
    let folder = stage.config.parent().unwrap();
    let text_of = std::fs::read_to_string(&stage.config).unwrap();
    std::fs::create_dir(folder.join("beside")).unwrap();
    let other = folder.join("beside/routes.toml");
    for start in [
        format!("{}/certs/", folder.display()),
        "../certs/./".to_owned(),
    ] {
        let written = text_of
            .replace("\"certs/", &format!("\"{start}"))
            .replace("\"file:certs/", &format!("\"file:{start}"));
        std::fs::write(&other, &written).unwrap();
        let mut command = paymux(&["check"], &other);
        command.arg("--diff").arg(&stage.config);
        let printed = text(&ran(command).await.stdout);
        assert!(printed.starts_with("nothing would change"), "{printed}");
    }
    let elsewhere = text_of.replace("\"certs/ca.pem", "\"../certs/server.pem");
    std::fs::write(
        &other,
        elsewhere
            .replace("\"certs/", "\"../certs/")
            .replace("file:certs/", "file:../certs/"),
    )
    .unwrap();
    let mut command = paymux(&["check"], &other);
    command.arg("--diff").arg(&stage.config);
    let printed = text(&ran(command).await.stdout);
    assert!(
        printed.contains("merchant_roots"),
        "another file is a change: {printed}"
    );
}

/// Text from unauthenticated callers about an order reaches a terminal as plain text, never as
/// control sequences or as characters that change how other text is shown.
#[tokio::test(flavor = "multi_thread")]
async fn text_from_unauthenticated_callers_controls_no_terminal() {
    let (stage, open) = open().await;
    placed(&stage.tea, &order(&stage.tea, "T1", "12.30", BLUE.id)).await;
    let (pem, _) = SigningKey::generate_ed25519().unwrap();
    let unauthenticated = SigningKey::from_pkcs8_pem("M1001-1", &pem).unwrap();
    let unauthenticated = client(&stage, unauthenticated, None);
    let odd = "harmless\u{9b}31m\u{9b}2J\u{85}\u{7f}\u{202e}\u{200b}\u{feff}";
    let about = json!({
    "merchantId": "M1001", "merchantOrderNo": "T1", "code": odd, "title": odd, "reason": [odd],
    });
    let refused = unauthenticated.post("/v1/orders", &about).await.unwrap();
    assert!((400..500).contains(&refused.status));
    let explaining = async {
        loop {
            let printed = text(
                &ran(paymux(&["explain", "M1001/T1"], &stage.config))
                    .await
                    .stdout,
            );
            if printed.contains("not proven") {
                break printed;
            }
        }
    };
    let printed = tokio::time::timeout(WAIT_MAX, explaining)
        .await
        .expect("it is in the exchange log");
    let obeyed = |message: &char| {
        *message != '\n' && (message.is_control() || "\u{202e}\u{200b}\u{feff}".contains(*message))
    };
    let found: Vec<char> = printed.chars().filter(obeyed).collect();
    assert_eq!(found, [], "{printed:?}");
    open.close().await.unwrap();
}
