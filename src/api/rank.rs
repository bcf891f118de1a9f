//! What is given up first when there is more to do than can be done (R-6.4-1c).

use http::Method;

/// How much it costs the world if a request is refused for now. Ascending: whoever is refused
/// first comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// What helps no payment along: what is at no path of ours, or asked with a wrong method, and the
    /// description of the interface.
    Other,
    /// A new order (A3.1): nothing has happened yet; it can come again in a second.
    Order,
    /// A payer's choice (X-2, and on our page): there is an order, and no money yet.
    Choice,
    /// Results, questions, endings, and what is read on the way to them, each by its path: refusing
    /// these makes the overload longer.
    Rest,
}

impl Rank {
    /// Every rank, first refused first.
    pub const ALL: [Self; 4] = [Self::Other, Self::Order, Self::Choice, Self::Rest];

    /// The rank of a request, from its first line alone, so that refusing costs nothing but reading
    /// that line.
    pub fn of(method: &[u8], path: &[u8]) -> Self {
        let posted = method == Method::POST.as_str().as_bytes();
        let [get, head] = [Method::GET, Method::HEAD];
        let read = [get.as_str().as_bytes(), head.as_str().as_bytes()].contains(&method);
        match path {
            b"/v1/orders" if posted => Self::Order,
            b"/v1/orders/select" if posted => Self::Choice,
            b"/v1/orders/institutions" | b"/v1/orders/query" | b"/v1/orders/close" if posted => {
                Self::Rest
            }
            b"/v1/refunds" | b"/v1/refunds/query" | b"/v1/events" if posted => Self::Rest,
            b"/.well-known/jwks.json" if read => Self::Rest,
            _ if posted && path.starts_with(b"/v1/callbacks/") => Self::Rest,
            _ if posted && path.starts_with(b"/pay/") => Self::Choice,
            _ if read && path.starts_with(b"/pay/") => Self::Rest,
            _ => Self::Other,
        }
    }

    /// The word in the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Other => "unknown",
            Self::Order => "new_order",
            Self::Choice => "selection",
            Self::Rest => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-6.4-1c: new orders go before choices, and both before whatever ends something; what is at no
    /// path of ours goes before all of them.
    #[test]
    fn new_orders_are_given_up_before_choices_and_both_before_results() {
        for (method, path, rank) in [
            ("POST", "/v1/orders", Rank::Order),
            ("POST", "/v1/orders/select", Rank::Choice),
            ("POST", "/pay/abc", Rank::Choice),
            ("GET", "/pay/abc", Rank::Rest),
            ("POST", "/v1/orders/query", Rank::Rest),
            ("POST", "/v1/orders/close", Rank::Rest),
            ("POST", "/v1/refunds", Rank::Rest),
            ("POST", "/v1/refunds/query", Rank::Rest),
            ("POST", "/v1/orders/institutions", Rank::Rest),
            ("POST", "/v1/events", Rank::Rest),
            ("POST", "/v1/callbacks/bluebank", Rank::Rest),
            ("GET", "/.well-known/jwks.json", Rank::Rest),
            ("HEAD", "/pay/abc/status", Rank::Rest),
            ("POST", "/v1/orders/", Rank::Other),
            ("GET", "/v1/orders", Rank::Other),
            ("GET", "/v1/orders/query", Rank::Other),
            ("PUT", "/pay/abc", Rank::Other),
            ("GET", "/openapi.yaml", Rank::Other),
            ("GET", "/", Rank::Other),
            ("GET", "/favicon.ico", Rank::Other),
        ] {
            let found = Rank::of(method.as_bytes(), path.as_bytes());
            assert_eq!(found, rank, "{method} {path}");
        }
        assert!(Rank::ALL.is_sorted_by(|one, next| one < next));
    }
}
