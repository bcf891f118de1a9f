//! The ready message cards are valid GSMA messages and name the institution and order.

use paymux::api::cards::cards;
use paymux::domain::institutions::{BusinessType, Offer};
use paymux::domain::order::CloseReason;

use super::one_order::{HOSTILE, LINK, ended, institution, link, open, paid, terms, tried};

/// The limits of GSMA RCC.07 and the operators' byte limit for one card.
fn is_card(content: &serde_json::Value) -> bool {
    let chars = |field: &str, max: usize| {
        let count = content[field].as_str().unwrap().chars().count();
        (1..=max).contains(&count)
    };
    let suggestions = content["suggestions"].as_array().unwrap();
    let fits = |suggestion: &serde_json::Value| {
        let inner = suggestion
            .get("reply")
            .or(suggestion.get("action"))
            .unwrap();
        let text = inner["displayText"].as_str().unwrap();
        let data = inner["postback"]["data"].as_str().unwrap();
        (1..=25).contains(&text.len()) && data.starts_with("p1.") && data.len() <= 2048
    };
    chars("title", 200)
        && chars("description", 2000)
        && (1..=4).contains(&suggestions.len())
        && suggestions.iter().all(fits)
}

/// R-5.1.4-2, R-5.1.4-3: one card for each institution, whose button names order and institution; a
/// carousel has 2 to 12, a single one is a card, more are several messages.
#[test]
fn institutions_become_cards_to_choose_from() {
    let order = open(terms(BusinessType::Aggregated), None);
    for (count, messages) in [(0, 0), (1, 1), (2, 1), (12, 1), (13, 2), (24, 2), (30, 3)] {
        let institutions: Vec<_> = (0..count)
            .map(|n| institution(&format!("bank-{n}"), "银行", HOSTILE))
            .collect();
        let offers: Vec<_> = institutions
            .iter()
            .map(|institution| Offer {
                institution,
                ineligible: None,
            })
            .collect();
        let made = cards(&order, Some(&offers), None);
        assert_eq!(made.len(), messages, "{count}");
        let mut seen = 0;
        for message in &made {
            let root = message.as_object().unwrap();
            assert_eq!(root.len(), 1);
            let carousel = &root["message"]["generalPurposeCardCarousel"]["content"];
            let contents = if let Some(several) = carousel.as_array() {
                assert!((2..=12).contains(&several.len()));
                several.clone()
            } else {
                vec![root["message"]["generalPurposeCard"]["content"].clone()]
            };
            for content in contents {
                assert!(is_card(&content), "{content}");
                let data = format!("p1.sel.{}.bank-{seen}", order.no);
                assert_eq!(
                    content["suggestions"][0]["reply"]["postback"]["data"],
                    *data
                );
                seen += 1;
            }
        }
        assert_eq!(seen, count);
    }
}

/// R-5.1.1-2, R-A2.1-4: a payment address becomes one card whose button opens it in the webview; it
/// shows no phone number; an ended order has no card.
#[test]
fn a_payment_address_becomes_one_card() {
    let order = tried(link(LINK));
    let made = cards(&order, None, Some(LINK.into()));
    assert_eq!(made.len(), 1);
    let content = &made[0]["message"]["generalPurposeCard"]["content"];
    assert!(is_card(content));
    assert!(content["title"].as_str().unwrap().contains("¥128.50"));
    let open = &content["suggestions"][0]["action"]["urlAction"]["openUrl"];
    let expected = serde_json::json!({"url": LINK, "application": "webview", "viewMode": "tall"});
    assert_eq!(*open, expected);
    let whole = made[0].to_string();
    assert!(!whole.contains("138") || !whole.contains("5678"));
    assert!(!whole.contains(&order.page_token().expose()));
    for order in [paid(), ended(CloseReason::Merchant)] {
        assert!(cards(&order, None, Some(LINK.into())).is_empty());
    }
}
