//! Responses and the requests they are bound to.

use super::*;

fn answer(status: u16) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Bytes::from_static(b"{\"result\":\"ACCEPTED\"}"))
        .unwrap()
}

/// Q2, for responses
#[test]
fn an_answer_is_proven_for_its_own_question_alone() {
    let (merchant, platform) = (merchant_key(), other_key("platform"));
    let question = Question::of(&signed(&merchant), ORIGIN).unwrap();
    let keys = ring(&[&platform]);
    let mut response = answer(200);
    let base = sign_response(&mut response, Some(&question), &platform, NOW_S).unwrap();
    assert!(
        base.contains("\n\"signature\";req;key=\"sig1\": :"),
        "{base}"
    );
    let proven = verify_response(&response, &question, &keys, NOW_S).unwrap();
    assert_eq!(
        (proven.owner.as_str(), proven.expires_s),
        ("owner of platform", None)
    );

    let other = |change: fn(&mut Question)| {
        let mut other = question.clone();
        change(&mut other);
        verify_response(&response, &other, &keys, NOW_S).unwrap_err()
    };
    let changes: [fn(&mut Question); 4] = [
        |other| other.method = Method::GET,
        |other| other.target_uri.push('x'),
        |other| other.content_digest = digest::of(b""),
        |other| other.signature = ":AA==:".to_owned(),
    ];
    for change in changes {
        assert!(other(change).base().is_some());
    }
    let fault = other(|other| other.label = "sig2".to_owned());
    assert!(matches!(fault, SignatureFault::CoversTooLittle { .. }));

    *response.status_mut() = http::StatusCode::ACCEPTED;
    let outcome = verify_response(&response, &question, &keys, NOW_S);
    assert!(matches!(
        outcome,
        Err(SignatureFault::SignatureMismatch { .. })
    ));
}

/// Q2, for responses
#[test]
fn an_answer_bound_to_nothing_answers_no_question() {
    let (merchant, platform) = (merchant_key(), other_key("platform"));
    assert_eq!(Question::of(&unsigned(), ORIGIN), None);
    let mut response = answer(401);
    sign_response(&mut response, None, &platform, NOW_S).unwrap();
    let question = Question::of(&signed(&merchant), ORIGIN).unwrap();
    let outcome = verify_response(&response, &question, &ring(&[&platform]), NOW_S);
    assert!(matches!(
        outcome,
        Err(SignatureFault::CoversTooLittle { .. })
    ));
}
