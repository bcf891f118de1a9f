//! What a row of the endpoint table holds, and how a request's first line finds its row. The table
//! itself is [`super::ENDPOINTS`].

use http::StatusCode;

use super::ENDPOINTS;
use super::priority::Priority;
use crate::flow::admit_request::RequestPurpose;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The methods answered.
    pub methods: EndpointMethods,
    /// The path.
    pub path: PathPattern,
    /// The interface's number or name, in metrics, logs and the exchange log.
    pub interface: &'static str,
    /// What is rejected first in overload.
    pub priority: Priority,
    /// Whether the path may be followed by a query string.
    pub query: QueryRule,
    /// Which of its exchanges enter the exchange log.
    pub exchange_log: ExchangeLogRule,
    /// Who calls, and the function that answers.
    pub function: EndpointFunction,
}

/// The methods of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointMethods {
    /// `POST`.
    Post,
    /// `GET` and `HEAD`, which is answered like `GET`.
    GetOrHead,
}

/// Whether a query string is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryRule {
    /// Refused: what merchants and institutions say of payers stays in bodies, which nobody on the way
    /// logs.
    NoQuery,
    /// Allowed, and ignored.
    AnyQuery,
}

/// Which exchanges enter the exchange log, if they name an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeLogRule {
    /// All. Callbacks are entered by their flow, which knows the order.
    Every,
    /// Those refused with a 4xx status: merchants query every second, and an answered query is not
    /// worth an entry.
    Refused,
    /// None.
    Never,
}

/// Who calls, and the function that answers: only a merchant's passes admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointFunction {
    /// Merchants: what the request may begin, and the function.
    Merchant(RequestPurpose, MerchantFunction),
    /// Institutions' callbacks.
    Institution,
    /// Whoever has the address of a payer's page.
    Payer(PayerFunction),
    /// Everybody: public documents.
    Anybody(PublicDocument),
}

/// What a merchant may request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MerchantFunction {
    /// A3.1.
    PlaceOrder,
    ///
    ListInstitutions,
    ///
    SelectInstitution,
    /// A3.2.
    QueryOrder,
    ///
    CloseOrder,
    /// A3.4.
    RefundOrder,
    ///
    QueryRefund,
    /// The merchant's events by their numbers.
    ListEvents,
}

/// What a payer may do on the page of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayerFunction {
    /// Read the page.
    ShowPage,
    /// Select an institution.
    Select,
    /// Go on to the institution.
    SendOn,
    /// Come back from the institution.
    Return,
    /// read the order's state.
    ShowStatus,
}

/// A public document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicDocument {
    /// The platform's public keys.
    Keys,
    /// The description of this interface.
    OpenApi,
}

/// A path with parameters in braces, each of which matches anything without a slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathPattern {
    text: &'static str,
    /// What precedes the first parameter; the whole path where there is none.
    before: &'static str,
    /// The first parameter and what follows it; empty where there is none.
    rest: &'static str,
}

/// What the first line of a request leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointMatch {
    /// The row of its path and method.
    Found(&'static Endpoint),
    /// A row of its path, with other methods.
    MethodWrong(&'static Endpoint),
    /// No row has such a path.
    Unknown,
}

impl EndpointMatch {
    /// Looks a request up in the table; allocates nothing.
    pub fn find(method: &[u8], path: &[u8]) -> Self {
        let mut matched = Self::Unknown;
        for endpoint in ENDPOINTS {
            if endpoint.path.matches(path) {
                if endpoint.methods.include(method) {
                    return Self::Found(endpoint);
                }
                matched = Self::MethodWrong(endpoint);
            }
        }
        matched
    }

    /// The request's load-shedding priority: known from its first line, so that rejecting costs no more
    /// than reading that.
    pub fn priority(self) -> Priority {
        match self {
            Self::Found(endpoint) => endpoint.priority,
            Self::MethodWrong(_) | Self::Unknown => Priority::Unrouted,
        }
    }
}

/// A row, as the table writes it.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a column of the table, and their types differ"
)]
pub(super) const fn row(
    methods: EndpointMethods,
    path: &'static str,
    interface: &'static str,
    priority: Priority,
    query: QueryRule,
    exchange_log: ExchangeLogRule,
    function: EndpointFunction,
) -> Endpoint {
    Endpoint {
        methods,
        path: PathPattern::of(path),
        interface,
        priority,
        query,
        exchange_log,
        function,
    }
}

impl Endpoint {
    /// The methods of all rows with this path, as the `allow` header lists them.
    pub(super) fn allowed_methods(&self) -> &'static str {
        let answers = |methods| {
            let mut same_path = ENDPOINTS.iter().filter(|row| row.path == self.path);
            same_path.any(|row| row.methods == methods)
        };
        if !answers(EndpointMethods::Post) {
            "GET, HEAD"
        } else if answers(EndpointMethods::GetOrHead) {
            "GET, HEAD, POST"
        } else {
            "POST"
        }
    }
}

impl ExchangeLogRule {
    /// Whether an exchange answered with this status is entered.
    pub(super) fn includes(self, status: StatusCode) -> bool {
        match self {
            Self::Every => true,
            Self::Refused => status.is_client_error(),
            Self::Never => false,
        }
    }
}

impl EndpointMethods {
    fn include(self, method: &[u8]) -> bool {
        match self {
            Self::Post => method == b"POST",
            Self::GetOrHead => matches!(method, b"GET" | b"HEAD"),
        }
    }
}

impl PathPattern {
    /// Reads a path such as `/pay/{token}/status`.
    pub(super) const fn of(text: &'static str) -> Self {
        let (before, rest) = split_at_byte(text, b'{');
        Self { text, before, rest }
    }

    /// As it is written in the table and in `docs/openapi.yaml`.
    pub const fn text(&self) -> &'static str {
        self.text
    }

    fn matches(&self, path: &[u8]) -> bool {
        let Some(found) = path.strip_prefix(self.before.as_bytes()) else {
            return false;
        };
        if self.rest.is_empty() {
            return found.is_empty();
        }
        let mut found = found.split(|byte| *byte == b'/');
        let mut own = self.rest.split('/');
        own.all(|own| {
            let found = found.next();
            found.is_some_and(|found| is_parameter(own) || found == own.as_bytes())
        }) && found.next().is_none()
    }

    /// The parameters in a path that matches.
    pub(super) fn parameters<'p>(&self, path: &'p str) -> impl Iterator<Item = &'p str> {
        let found = path.strip_prefix(self.before).unwrap_or_default();
        let both = self.rest.split('/').zip(found.split('/'));
        both.filter(|(own, _)| is_parameter(own))
            .map(|(_, found)| found)
    }

    /// The first parameter in a path that matches; empty where there is none.
    pub(super) fn parameter<'p>(&self, path: &'p str) -> &'p str {
        self.parameters(path).next().unwrap_or_default()
    }

    /// The path with this first parameter, behind an origin.
    pub(super) fn address(&self, origin: &str, parameter: &str) -> String {
        let (_, after) = self.rest.split_once('}').unwrap_or_default();
        format!("{origin}{}{parameter}{after}", self.before)
    }
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

/// Splits before the first such byte; at the end where there is none.
const fn split_at_byte(text: &str, byte: u8) -> (&str, &str) {
    let (mut rest, mut length) = (text.as_bytes(), 0_usize);
    while let [first, tail @ ..] = rest {
        if *first == byte {
            break;
        }
        (rest, length) = (tail, length.saturating_add(1));
    }
    text.split_at(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> Option<(&'static str, &'static str)> {
        match EndpointMatch::find(method.as_bytes(), path.as_bytes()) {
            EndpointMatch::Found(endpoint) => Some((endpoint.interface, endpoint.path.text())),
            EndpointMatch::MethodWrong(_) | EndpointMatch::Unknown => None,
        }
    }

    /// A parameter is one segment: it holds no slash, and each path has one row for a method.
    #[test]
    fn a_path_has_one_row() {
        for (path, row) in [
            ("/pay/a.b", Some(("page", "/pay/{token}"))),
            ("/pay/", Some(("page", "/pay/{token}"))),
            ("/pay/status", Some(("page", "/pay/{token}"))),
            ("/pay/a/status", Some(("X-6", "/pay/{token}/status"))),
            ("/pay/a/b/status", None),
            ("/pay/a/b", None),
            ("/pay", None),
            ("/pay/a/stat", None),
            ("/v1/orders", None),
        ] {
            assert_eq!(found("GET", path), row, "{path}");
            assert_eq!(found("HEAD", path), row, "{path}");
        }
        for row in ENDPOINTS {
            let same = |other: &&Endpoint| {
                (other.path.matches(row.path.text().as_bytes())) && other.methods == row.methods
            };
            assert_eq!(ENDPOINTS.iter().filter(same).count(), 1, "{row:?}");
        }
    }

    /// RFC 9110, 15.5.6: a wrong method is answered with the right ones of every row of the path.
    #[test]
    fn a_wrong_method_names_the_right_ones() {
        for (path, allowed) in [
            ("/pay/abc", "GET, HEAD, POST"),
            ("/pay/abc/status", "GET, HEAD"),
            ("/v1/orders", "POST"),
        ] {
            let EndpointMatch::MethodWrong(row) = EndpointMatch::find(b"PUT", path.as_bytes())
            else {
                panic!("{path}");
            };
            assert_eq!(row.allowed_methods(), allowed, "{path}");
        }
    }

    /// An address that is given out is one that is answered, with the parameter it was made of.
    #[test]
    fn an_address_leads_back_to_its_parameter() {
        let pattern = PathPattern::of("/pay/{token}/status");
        let path = pattern.address("", "a.b");
        assert_eq!(path, "/pay/a.b/status");
        assert!(pattern.matches(path.as_bytes()));
        assert_eq!(pattern.parameter(&path), "a.b");
        assert_eq!(PathPattern::of("/v1/orders").parameter("/v1/orders"), "");
        let pattern = PathPattern::of("/v1/callbacks/{institution}/{account}");
        let path = "/v1/callbacks/bank/tea";
        assert!(pattern.matches(path.as_bytes()));
        assert_eq!(
            pattern.parameters(path).collect::<Vec<_>>(),
            ["bank", "tea"]
        );
        for other in [
            "/v1/callbacks/bank",
            "/v1/callbacks/bank/tea/",
            "/v1/callbacks/",
        ] {
            assert!(!pattern.matches(other.as_bytes()), "{other}");
        }
    }
}
