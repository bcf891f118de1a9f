//! Payers' secrets, which merchants must not collect, are refused in free-text fields.

use serde_json::json;

use super::{good, refused, with};
use crate::world::test_gateway::{TestGateway, naming};

/// R-6.1.1-3a, R-6.1.3-1, R-6.1.4-1: a card number, a security code or a password in a description
/// or a reason is refused and neither quoted nor stored; fields that are numbers by their nature
/// are not checked.
#[test]
fn payers_secrets_in_free_text_are_refused() {
    let gateway = TestGateway::new();
    for text in ["card 4111 1111 1111 1111", "CVV：123", "验证码 004211"] {
        for field in ["goodsName", "goodsDescription"] {
            let request = with(&gateway, json!({ field: text }));
            let reply = refused(&gateway, request, 422, "secret_in_text");
            assert_eq!(reply.text("field"), field);
            assert!(!reply.json.to_string().contains(text), "{}", reply.json);
        }
    }
    let numbers = json!({ "goodsNo": "4111111111111111", "attach": "4111111111111111" });
    assert_eq!(gateway.send(with(&gateway, numbers)).status, 200);
    let refund_fields = json!({ "orderDate": "20260925", "refundAmount": "1", "mobileNo": "13812345678",
        "refundReason": "my card is 5105105105105100" });
    let mut body = naming("T1");
    body.as_object_mut()
        .unwrap()
        .extend(refund_fields.as_object().unwrap().clone());
    let request = gateway.signed("M1", "/v1/refunds", &body);
    let reply = refused(&gateway, request, 422, "secret_in_text");
    assert_eq!(reply.text("field"), "refundReason");
    assert_eq!(gateway.send(good(&gateway)).result, "order_conflict");
}
