//! What is given up first when there is more to do than can be done (R-6.4-1c).

use http::Method;

/// How much it costs the world if a request is refused for now. Ascending: whoever is refused
/// first comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A new order (A3.1): nothing has happened yet; it can come again in a second.
    Order,
    /// A payer's choice (X-2, and on our page): there is an order, and no money yet.
    Choice,
    /// Everything else: results, questions, endings. Refusing these makes the overload longer.
    Rest,
}

impl Rank {
    /// Every rank, first refused first.
    pub const ALL: [Self; 3] = [Self::Order, Self::Choice, Self::Rest];

    /// The rank of a request, from its first line alone, so that refusing costs nothing but reading
    /// that line.
    pub fn of(method: &[u8], path: &[u8]) -> Self {
        match path {
            b"/v1/orders" => Self::Order,
            b"/v1/orders/select" => Self::Choice,
            page if page.starts_with(b"/pay/") && method == Method::POST.as_str().as_bytes() => {
                Self::Choice
            }
            _ => Self::Rest,
        }
    }

    /// The word in the metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Choice => "choice",
            Self::Rest => "rest",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-6.4-1c: new orders go before choices, and both before whatever ends something.
    #[test]
    fn new_orders_are_given_up_before_choices_and_both_before_results() {
        for (method, path, rank) in [
            ("POST", "/v1/orders", Rank::Order),
            ("POST", "/v1/orders/select", Rank::Choice),
            ("POST", "/pay/abc", Rank::Choice),
            ("GET", "/pay/abc", Rank::Rest),
            ("POST", "/v1/orders/query", Rank::Rest),
            ("POST", "/v1/orders/close", Rank::Rest),
            ("POST", "/v1/orders/institutions", Rank::Rest),
            ("POST", "/v1/callbacks/bluebank", Rank::Rest),
            ("POST", "/v1/orders/", Rank::Rest),
        ] {
            let found = Rank::of(method.as_bytes(), path.as_bytes());
            assert_eq!(found, rank, "{method} {path}");
        }
        assert!(Rank::Order < Rank::Choice && Rank::Choice < Rank::Rest);
    }
}
