//! The test configuration: merchants with keys, institutions with abilities, and a contract between
//! each pair unless a test removes it.

pub(crate) mod standard;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use paymux::domain::amount::{CNY, Currency};
use paymux::domain::identifiers::{AccountId, InstitutionId, MerchantId, ProductId, ReceiverId};
use paymux::domain::institutions::{
    AmountRange, Contract, Credentials, InstitutionProfile, Mode, Payers, RefundKinds, RefundRules,
    Route, RoutingTable, TransactionType,
};
use paymux::domain::merchant::{
    Admission, ClientCertificate, Merchant, OrderPage, ShownCertificate,
};
use paymux::flow::configuration_snapshot::{ConfigurationSnapshot, PlatformIdentity, SigningKeys};
use paymux::signature::{Covering, EnrolledKey, KeyRing, SigningKey, VerifyingKey, sign_request};
use serde_json::Value;

use super::clock::START_MS;
use super::dialect::PlainAdapter;
use super::fake_institution::FakeInstitutionAbility;

/// The gateway's public origin.
pub(crate) const ORIGIN: &str = "https://pay.example";
pub(crate) const HOST: &str = "pay.example";

/// A key pair of this run.
pub(crate) struct TestKeyPair {
    private: String,
    /// Parsed once, as in a gateway: state cached for a repeatedly used key stays with it.
    public: VerifyingKey,
}

impl TestKeyPair {
    fn new() -> Self {
        let (private, public) = SigningKey::generate_ed25519().unwrap();
        let public = VerifyingKey::from_spki_pem(&public).unwrap();
        Self { private, public }
    }

    pub(crate) fn signing(&self, id: &str) -> SigningKey {
        SigningKey::from_pkcs8_pem(id, &self.private).unwrap()
    }

    pub(crate) fn verifying(&self) -> VerifyingKey {
        self.public.clone()
    }
}

/// Keys of two merchants, an unknown caller, the platform and two staff members; their values do
/// not affect any run.
pub(crate) static PAIRS: LazyLock<[TestKeyPair; 6]> =
    LazyLock::new(|| [(); 6].map(|()| TestKeyPair::new()));

static SIGNERS: LazyLock<HashMap<&str, SigningKey>> = LazyLock::new(|| {
    [
        ("M1-key", 0),
        ("M1-old", 2),
        ("M2-key", 1),
        ("unknown", 2),
        ("platform", 3),
        ("anna-key", 4),
        ("ben-key", 5),
    ]
    .map(|(id, pair)| (id, PAIRS[pair].signing(id)))
    .into_iter()
    .chain(SECRETS.map(|(id, _, secret)| (id, SigningKey::from_secret(id, &secret).unwrap())))
    .collect()
});

/// Secrets shared between merchants and the gateway: cheap enough for thousands of runs, and
/// accepted only with a certificate.
const SECRETS: [(&str, &str, [u8; 32]); 2] = [
    ("M1-secret", "M1", *b"the first merchant's, for runs.;"),
    ("M2-secret", "M2", *b"the second one's, for runs too.;"),
];

/// The private key for a key id.
pub(crate) fn signer(id: &str) -> &'static SigningKey {
    &SIGNERS[id]
}

/// The platform's public key, as merchants hold it.
pub(crate) fn platform_ring() -> KeyRing {
    KeyRing::new(vec![enrolled("platform", "platform", 3, i64::MAX)]).unwrap()
}

fn enrolled(id: &str, owner: &str, pair: usize, not_after_s: i64) -> EnrolledKey {
    EnrolledKey {
        id: id.into(),
        owner: owner.into(),
        key: PAIRS[pair].verifying(),
        not_before_s: 0,
        not_after_s,
    }
}

fn staff() -> KeyRing {
    let anna = enrolled("anna-key", "anna", 4, i64::MAX);
    let ben = enrolled("ben-key", "ben", 5, i64::MAX);
    KeyRing::new(vec![anna, ben]).unwrap()
}

/// The fingerprint of the certificate enrolled for a merchant.
pub(crate) fn certificate(merchant: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..merchant.len()].copy_from_slice(merchant.as_bytes());
    digest
}

/// The certificate a merchant's connection presents, valid until then.
pub(crate) fn shown(merchant: &str, not_after_s: i64) -> ShownCertificate {
    ShownCertificate {
        digest: certificate(merchant),
        not_before_s: 0,
        not_after_s,
    }
}

pub(crate) fn merchant(id: &str) -> Merchant {
    let shop = format!("https://{}.shop.example", id.to_ascii_lowercase());
    Merchant {
        id: MerchantId::parse(id).unwrap(),
        name: "Tea House".into(),
        admission: Admission::Admitted,
        client_certificate: ClientCertificate::Optional,
        certificates: vec![certificate(id)],
        notice_url: Some(format!("{shop}/events")),
        notify_origins: vec![shop],
        default_institutions: HashMap::new(),
        order_page: OrderPage::Shown,
    }
}

fn institution(id: &str, ability: FakeInstitutionAbility) -> InstitutionProfile {
    InstitutionProfile {
        id: InstitutionId::parse(id).unwrap(),
        name: format!("{id} 银行"),
        name_en: format!("{id} Bank"),
        logo_url: Some(format!("https://{id}.example/logo.png")),
        admission: Admission::Admitted,
        stopped: false,
        modes: vec![Mode::Webview, Mode::Native],
        currencies: vec![CNY],
        refunds: RefundRules {
            kinds: RefundKinds::ALL,
            window: std::time::Duration::from_hours(24 * 365),
        },
        waivers: Vec::new(),
        facts: ability.facts(),
        credentials: Credentials::default(),
    }
}

/// Renminbi, from the smallest amount to this one. Unit: fen.
pub(crate) fn up_to(minor_max: i64) -> AmountRange {
    AmountRange {
        currency: CNY,
        minor_min: 1,
        minor_max,
    }
}

fn contract(merchant: &str, institution: &str) -> Contract {
    Contract {
        merchant: MerchantId::parse(merchant).unwrap(),
        institution: InstitutionId::parse(institution).unwrap(),
        account: AccountId::parse("shop").unwrap(),
        receiver: ReceiverId::parse(&format!("{merchant}-at-{institution}")).unwrap(),
        modes: vec![Mode::Webview, Mode::Native],
        products: vec![ProductId::parse("STANDARD").unwrap()],
        fee: None,
        transaction_types: TransactionType::ALL.to_vec(),
        stopped: false,
        sums: vec![up_to(1_000_000)],
        payers: Payers::default(),
        hours: None,
    }
}

fn route(id: &str, order: u32) -> Route {
    Route {
        institution: InstitutionId::parse(id).unwrap(),
        stopped: false,
        sums: vec![up_to(500_000)],
        payers: Payers::default(),
        order,
    }
}

/// The merchants in the test configuration.
pub(crate) const MERCHANTS: [&str; 2] = ["M1", "M2"];

/// Every merchant contracted with every institution. `M1-old` is a key of M1 that expired a day
/// ago.
pub(crate) fn snapshot(institutions: &[(&str, FakeInstitutionAbility)]) -> ConfigurationSnapshot {
    let mut routing = RoutingTable {
        version: 1,
        ..RoutingTable::default()
    };
    let mut adapters: HashMap<_, Arc<dyn paymux::institution::Institution>> = HashMap::new();
    for (place, (name, ability)) in (1..).zip(institutions) {
        let enrolled = institution(name, *ability);
        let id = enrolled.id.clone();
        let facts = ability.facts();
        adapters.insert(id.clone(), Arc::new(PlainAdapter::new(id.clone(), facts)));
        routing.institutions.insert(id.clone(), enrolled);
        routing.routes.push(route(name, place));
        for merchant in MERCHANTS {
            let contract = contract(merchant, name);
            let key = (contract.merchant.clone(), id.clone());
            routing.contracts.insert(key, contract);
        }
    }
    for id in MERCHANTS {
        let merchant = merchant(id);
        routing.merchants.insert(merchant.id.clone(), merchant);
    }
    let yesterday_s = START_MS / 1_000 - 86_400;
    let mut keys = vec![
        enrolled("M1-key", "M1", 0, i64::MAX),
        enrolled("M1-old", "M1", 2, yesterday_s),
        enrolled("M2-key", "M2", 1, i64::MAX),
    ];
    keys.extend(SECRETS.map(|(id, owner, secret)| EnrolledKey {
        key: VerifyingKey::from_secret(&secret).unwrap(),
        ..enrolled(id, owner, 0, i64::MAX)
    }));
    let keys = KeyRing::new(keys).unwrap();
    ConfigurationSnapshot::new(
        routing,
        keys,
        adapters,
        PlatformIdentity {
            origin: ORIGIN.into(),
            signing: SigningKeys::always(signer("platform").clone()),
            jwks: Bytes::from_static(b"{\"keys\":[]}"),
        },
    )
    .with_staff(staff())
}

/// As `snapshot`, with US dollars as well.
pub(crate) fn in_dollars(institutions: &[(&str, FakeInstitutionAbility)]) -> ConfigurationSnapshot {
    let mut snapshot = snapshot(institutions);
    let dollars = Currency::parse("USD").unwrap();
    let all = &mut snapshot.routing;
    for institution in all.institutions.values_mut() {
        institution.currencies.push(dollars);
    }
    for contract in all.contracts.values_mut() {
        contract.sums.push(AmountRange {
            currency: dollars,
            ..up_to(1_000_000)
        });
    }
    snapshot
}

/// A request as a merchant sends it, not signed yet.
pub(crate) fn unsigned(path: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    let mut request = Request::post(path).body(body.into()).unwrap();
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static(HOST));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    request
}

/// Signs a request, replacing any earlier signature.
pub(crate) fn sign(request: &mut Request<Bytes>, key: &str, created_s: i64, nonce: &str) {
    let target = format!("{ORIGIN}{}", request.uri().path());
    let covering = Covering {
        created_s,
        expires_s: Some(created_s + 120),
        nonce: Some(nonce),
    };
    sign_request(request, &target, signer(key), &covering).unwrap();
}

/// The thirteen fields of an order, all valid.
pub(crate) fn order_fields(merchant: &str, no: &str) -> Value {
    serde_json::json!({
        "transactionType": "PASSWORD_PAY",
        "businessType": "AGGREGATED",
        "bankReturnUrl": format!("https://{}.shop.example/paid", merchant.to_ascii_lowercase()),
        "merchantOrderNo": no,
        "merchantName": "Tea House",
        "orderDate": "20260925",
        "orderAmount": "12.30",
        "currency": "CNY",
        "merchantId": merchant,
        "mobileNo": "13812345678",
        "goodsNo": "T-1",
        "goodsName": "龙井",
        "goodsDescription": "250 g",
    })
}
