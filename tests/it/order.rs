//! Placing an order and asking where it stands (A3.1, A3.2, X-1).

use serde_json::json;

use crate::world::town::Town;

/// R-A3.1-2, R-A2.1-2: an order is placed and answered with the eight fields.
#[test]
fn an_order_is_placed() {
    let town = Town::new();
    let told = town.place("T1", json!({}));
    assert_eq!(told.status, 200, "{:?}", told.json);
    assert_eq!(told.text("result"), "ACCEPTED");
}
