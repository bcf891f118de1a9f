//! Which requests are rejected first in overload (R-6.4-1c).

/// Cost of rejecting a request for now, ascending: the first is rejected first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Not part of any payment: unknown paths, wrong methods, and the interface description.
    Unrouted,
    /// A new order (A3.1): nothing has happened yet, and the merchant can retry a second later.
    NewOrder,
    /// A selection (X-2, and on the payer's page): an order exists, but no money has moved.
    Selection,
    /// Everything else, such as callbacks, queries, closes and refunds: rejecting these would
    /// prolong the overload.
    Other,
}

impl Priority {
    /// Every priority, in the order of rejection.
    pub const ALL: [Self; 4] = [Self::Unrouted, Self::NewOrder, Self::Selection, Self::Other];

    /// The word in the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unrouted => "unknown",
            Self::NewOrder => "new_order",
            Self::Selection => "selection",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::EndpointMatch;

    /// R-6.4-1c: new orders are rejected before selections, and both before whatever ends something;
    /// unknown paths are rejected before all of them.
    #[test]
    fn new_orders_are_rejected_before_selections_and_both_before_results() {
        for (method, path, priority) in [
            ("POST", "/v1/orders", Priority::NewOrder),
            ("POST", "/v1/orders/select", Priority::Selection),
            ("POST", "/pay/abc", Priority::Selection),
            ("GET", "/pay/abc", Priority::Other),
            ("POST", "/v1/orders/query", Priority::Other),
            ("POST", "/v1/orders/close", Priority::Other),
            ("POST", "/v1/refunds", Priority::Other),
            ("POST", "/v1/refunds/query", Priority::Other),
            ("POST", "/v1/orders/institutions", Priority::Other),
            ("POST", "/v1/events", Priority::Other),
            ("POST", "/v1/callbacks/bluebank", Priority::Other),
            ("GET", "/.well-known/jwks.json", Priority::Other),
            ("HEAD", "/pay/abc/status", Priority::Other),
            ("POST", "/v1/orders/", Priority::Unrouted),
            ("GET", "/v1/orders", Priority::Unrouted),
            ("GET", "/v1/orders/query", Priority::Unrouted),
            ("PUT", "/pay/abc", Priority::Unrouted),
            ("GET", "/openapi.yaml", Priority::Unrouted),
            ("GET", "/", Priority::Unrouted),
            ("GET", "/favicon.ico", Priority::Unrouted),
        ] {
            let found = EndpointMatch::find(method.as_bytes(), path.as_bytes()).priority();
            assert_eq!(found, priority, "{method} {path}");
        }
        assert!(Priority::ALL.is_sorted_by(|one, next| one < next));
    }
}
