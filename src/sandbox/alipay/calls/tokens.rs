//! A provider's authorisation by a merchant: exchange of `app_auth_code`, and its state.

use serde_json::json;

use crate::sandbox::alipay::admission::AdmittedCall;
use crate::sandbox::alipay::answer::{AlipayRefusal, NodeMembers};
use crate::sandbox::alipay::{AlipayState, lock};

/// What the obsolete `expires_in` and its kin say. Unit: seconds.
const EXPIRES_S: u32 = 31_536_000;

/// A code is used once; a refresh token gives the same authorisation again.
pub(super) fn exchange(
    state: &AlipayState,
    admitted: &AdmittedCall,
) -> Result<NodeMembers, AlipayRefusal> {
    let biz = &admitted.biz;
    biz.only(&[&["grant_type", "code", "refresh_token"]])?;
    let mut authorisations = lock(&state.authorisations);
    let of_app = authorisations
        .iter_mut()
        .filter(|enrolled| enrolled.authorisation.app_id == admitted.party.app_id);
    let mut usable = of_app.filter(|enrolled| !enrolled.withdrawn);
    let found = match biz.required("grant_type", 32)? {
        "authorization_code" => {
            let code = biz.required("code", 64)?;
            usable.find(|enrolled| enrolled.authorisation.code == code && !enrolled.code_used)
        }
        "refresh_token" => {
            let token = biz.required("refresh_token", 64)?;
            usable.find(|enrolled| enrolled.authorisation.refresh_token == token)
        }
        _ => return Err(biz.wrong("grant_type")),
    };
    let invalid = || AlipayRefusal::invalid("isv.code-invalid", "授权码无效");
    let enrolled = found.ok_or_else(invalid)?;
    enrolled.code_used = true;
    let authorisation = &enrolled.authorisation;
    let tokens = json!([{
        "app_auth_token": authorisation.token,
        "app_refresh_token": authorisation.refresh_token,
        "auth_app_id": authorisation.auth_app_id,
        "user_id": authorisation.seller_id,
        "expires_in": EXPIRES_S,
        "re_expires_in": EXPIRES_S,
    }]);
    Ok(vec![("tokens", tokens)])
}

pub(super) fn query(
    state: &AlipayState,
    admitted: &AdmittedCall,
) -> Result<NodeMembers, AlipayRefusal> {
    let biz = &admitted.biz;
    biz.only(&[&["app_auth_token"]])?;
    let token = biz.required("app_auth_token", 40)?;
    let authorisations = lock(&state.authorisations);
    let found = authorisations.iter().find(|enrolled| {
        let authorisation = &enrolled.authorisation;
        authorisation.token == token && authorisation.app_id == admitted.party.app_id
    });
    let enrolled = found.ok_or_else(|| biz.wrong("app_auth_token"))?;
    let status = if enrolled.withdrawn {
        "invalid"
    } else {
        "valid"
    };
    Ok(vec![
        (
            "auth_app_id",
            enrolled.authorisation.auth_app_id.as_str().into(),
        ),
        ("expires_in", EXPIRES_S.into()),
        ("is_by_app_auth", true.into()),
        ("status", status.into()),
        ("user_id", enrolled.authorisation.seller_id.as_str().into()),
    ])
}
