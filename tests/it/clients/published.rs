//! How the programs cache the gateway's public keys: for a short time, and without a fetch for each
//! message.

use super::notified::SpoilableNotification;
use super::program::Program;
use super::relay::KeyPublication;
use super::{ClientTestbed, ProgramEnvironment};

/// A program's environment with other maximum ages of keys, in seconds.
fn aged(scene: &ClientTestbed, old: &str, pause: &str) -> ProgramEnvironment {
    let mut around = scene.around.clone();
    let ages = [("PAYMUX_KEYS_OLD_S", old), ("PAYMUX_KEYS_PAUSE_S", pause)];
    let ages = ages.map(|(name, value)| (name, value.to_owned()));
    around.variables.extend(ages);
    around
}

/// Once the cached set is old, only the keys that the gateway publishes now are accepted.
async fn refuses_a_withdrawn_key(program: Program) {
    let scene = ClientTestbed::tampered().await;
    let notifications = SpoilableNotification::of(&scene);
    let mut listening = program.listen(&aged(&scene, "0", "0"), scene.notices).await;
    assert_eq!(notifications.honest().await.status, 200);
    assert_eq!(listening.next_line().await, "heard E9");
    for publishing in [
        KeyPublication::Withdrawn,
        KeyPublication::Elsewhere,
        KeyPublication::Broken,
    ] {
        scene.relay().publish(publishing);
        let status = notifications.honest().await.status;
        assert_eq!(status, 401, "{program:?} {publishing:?}");
    }
    scene.relay().publish(KeyPublication::Honest);
    assert_eq!(notifications.honest().await.status, 200);
    assert_eq!(listening.next_line().await, "repeated E9");
}

/// Forged messages, concurrent and one after another, cause a single fetch of the keys.
async fn fetches_keys_once(program: Program) {
    let scene = ClientTestbed::tampered().await;
    let notifications = SpoilableNotification::of(&scene);
    let around = aged(&scene, "600", "600");
    let forged = async || {
        let answers = tokio::join!(
            notifications.unknown(),
            notifications.unknown(),
            notifications.unknown()
        );
        let answers = [
            answers.0,
            answers.1,
            answers.2,
            notifications.unknown().await,
        ];
        assert!(answers.iter().all(|answer| answer.status == 401));
    };
    scene.relay().publish(KeyPublication::Broken);
    let listening = program.listen(&around, scene.notices).await;
    forged().await;
    assert_eq!(
        scene.relay().key_fetches(),
        1,
        "{program:?}: a failure counts"
    );
    listening.ended().await;

    // As if the keys had never been fetched.
    for file in std::fs::read_dir(around.folder.join("var")).unwrap() {
        let file = file.unwrap();
        if file.file_name().to_string_lossy().starts_with("keys-") {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    scene.relay().publish(KeyPublication::Honest);
    let _listening = program.listen(&around, scene.notices).await;
    assert_eq!(notifications.honest().await.status, 200);
    forged().await;
    assert_eq!(notifications.honest().await.status, 200);
    assert_eq!(
        scene.relay().key_fetches(),
        2,
        "{program:?}: the cached set serves"
    );
}

/// Q2, N2: a key that the gateway withdrew is accepted only until the cached set is old.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_refuses_a_withdrawn_key() {
    refuses_a_withdrawn_key(Program::Python).await;
}

/// Q2, N2: the same in Node.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_refuses_a_withdrawn_key() {
    refuses_a_withdrawn_key(Program::Node).await;
}

/// Q2, N2: the same with curl and openssl.
#[tokio::test(flavor = "multi_thread")]
async fn the_curl_client_refuses_a_withdrawn_key() {
    refuses_a_withdrawn_key(Program::Curl).await;
}

/// Q2, N2: the same in Java.
#[tokio::test(flavor = "multi_thread")]
async fn the_java_client_refuses_a_withdrawn_key() {
    refuses_a_withdrawn_key(Program::Compiled).await;
}

/// Q2: a message cannot make a program fetch the keys each time.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_fetches_keys_once() {
    fetches_keys_once(Program::Python).await;
}

/// Q2: the same in Node.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_fetches_keys_once() {
    fetches_keys_once(Program::Node).await;
}

/// Q2: the same with curl and openssl, a process for each message.
#[tokio::test(flavor = "multi_thread")]
async fn the_curl_client_fetches_keys_once() {
    fetches_keys_once(Program::Curl).await;
}

/// Q2: the same in Java.
#[tokio::test(flavor = "multi_thread")]
async fn the_java_client_fetches_keys_once() {
    fetches_keys_once(Program::Compiled).await;
}
