//! How the programs keep the gateway's public keys: not for long, and not fetched for everybody.

use super::notified::SpoilableNotification;
use super::program::Program;
use super::relay::KeyPublication;
use super::{ClientTestbed, ProgramEnvironment};

/// A program's surroundings with other ages of keys, in seconds.
fn aged(scene: &ClientTestbed, old: &str, pause: &str) -> ProgramEnvironment {
    let mut around = scene.around.clone();
    let ages = [("PAYMUX_KEYS_OLD_S", old), ("PAYMUX_KEYS_PAUSE_S", pause)];
    let ages = ages.map(|(name, value)| (name, value.to_owned()));
    around.variables.extend(ages);
    around
}

/// Once the set is old, only what the gateway publishes now is believed.
async fn believes_no_withdrawn_key(program: Program) {
    let scene = ClientTestbed::tampered().await;
    let telling = SpoilableNotification::of(&scene);
    let mut listening = program.listen(&aged(&scene, "0", "0"), scene.notices).await;
    assert_eq!(telling.honest().await.status, 200);
    assert_eq!(listening.said().await, "heard E9");
    for publishing in [
        KeyPublication::Withdrawn,
        KeyPublication::Elsewhere,
        KeyPublication::Broken,
    ] {
        scene.relay().publish(publishing);
        let status = telling.honest().await.status;
        assert_eq!(status, 401, "{program:?} {publishing:?}");
    }
    scene.relay().publish(KeyPublication::Honest);
    assert_eq!(telling.honest().await.status, 200);
    assert_eq!(listening.said().await, "repeated E9");
}

/// Whoever sends rubbish, at the same time and one after another, has the keys fetched once.
async fn fetches_keys_for_nobody(program: Program) {
    let scene = ClientTestbed::tampered().await;
    let telling = SpoilableNotification::of(&scene);
    let around = aged(&scene, "600", "600");
    let forged = async || {
        let answers = tokio::join!(telling.unknown(), telling.unknown(), telling.unknown());
        let answers = [answers.0, answers.1, answers.2, telling.unknown().await];
        assert!(answers.iter().all(|answer| answer.status == 401));
    };
    scene.relay().publish(KeyPublication::Broken);
    let listening = program.listen(&around, scene.notices).await;
    forged().await;
    assert_eq!(scene.relay().looks(), 1, "{program:?}: a failure counts");
    listening.ended().await;

    // As if it had never looked.
    for file in std::fs::read_dir(around.folder.join("var")).unwrap() {
        let file = file.unwrap();
        if file.file_name().to_string_lossy().starts_with("keys-") {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    scene.relay().publish(KeyPublication::Honest);
    let _listening = program.listen(&around, scene.notices).await;
    assert_eq!(telling.honest().await.status, 200);
    forged().await;
    assert_eq!(telling.honest().await.status, 200);
    assert_eq!(scene.relay().looks(), 2, "{program:?}: what is kept serves");
}

/// Q2, N2: a key that the gateway took out of its set is not believed for ever.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_believes_no_withdrawn_key() {
    believes_no_withdrawn_key(Program::Python).await;
}

/// Q2, N2: the same in Node.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_believes_no_withdrawn_key() {
    believes_no_withdrawn_key(Program::Node).await;
}

/// Q2, N2: the same with curl and openssl.
#[tokio::test(flavor = "multi_thread")]
async fn the_curl_client_believes_no_withdrawn_key() {
    believes_no_withdrawn_key(Program::Curl).await;
}

/// Q2, N2: the same in Java.
#[tokio::test(flavor = "multi_thread")]
async fn the_java_client_believes_no_withdrawn_key() {
    believes_no_withdrawn_key(Program::Compiled).await;
}

/// Q2: nobody makes a program call the gateway for each message that he sends it.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_fetches_keys_for_nobody() {
    fetches_keys_for_nobody(Program::Python).await;
}

/// Q2: the same in Node.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_fetches_keys_for_nobody() {
    fetches_keys_for_nobody(Program::Node).await;
}

/// Q2: the same with curl and openssl, a process for each message.
#[tokio::test(flavor = "multi_thread")]
async fn the_curl_client_fetches_keys_for_nobody() {
    fetches_keys_for_nobody(Program::Curl).await;
}

/// Q2: the same in Java.
#[tokio::test(flavor = "multi_thread")]
async fn the_java_client_fetches_keys_for_nobody() {
    fetches_keys_for_nobody(Program::Compiled).await;
}
