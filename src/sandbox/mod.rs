//! Simulated institutions of the `standard` dialect, counterparts of WeChat Pay ([`wechatpay`]),
//! Alipay ([`SandboxAlipay`]) and UnionPay ([`SandboxUnionPay`]), and a simulated merchant: real
//! HTTPS servers with their own ledgers, for demonstrations and tests. Written from the wire
//! formats, and as strict as real parties; shares only `signature` and `crypto` with the gateway.
//! State is in memory; no money moves.
//!
//! Faults on demand are listed in [`FAULTS`]. The last two digits of the amount trigger one, or
//! `POST /control/next {"fault": "no_answer", "times": 1, "call": "create"}` at the institution.
//! A response fault triggered by an amount shows at the first create or refund call only, so that
//! the outcome can be queried; at refunds the refund's amount counts. `GET /control/faults`
//! publishes the same table, `GET /control/books` the ledger.
//!
//! | Amount ends in | Fault |
//! |---|---|
//! | `61` `62` `63` | slow response; none, connection held open; none, connection closed |
//! | `64` `65` | 503 without effect; 500 although carried out |
//! | `66` `67` | forged signature on the response; unlisted status word |
//! | `68` `69` | payment refused; paid and called back before the response |
//! | `71` `72` | close refused; payment taken after a confirmed close |
//! | `81` `82` `85` | callback twice; late; never |
//! | `83` `84` | first callback with another amount; with a forged signature |
//! | `91` `93` | refund pending, succeeds later; fails later |
//! | `92` `94` | refund failed for good; reported as failed, but succeeds later |
//!
//! The three counterparts have faults of their own ([`ALIPAY_FAULTS`] lists Alipay's), and only
//! `crypto` in common with the gateway that calls them.

mod alipay;
mod authority;
mod client;
mod clock;
mod exchange;
mod html;
mod institution;
mod merchant;
mod payer;
mod refusal;
mod server;
mod unionpay;
mod watched;
pub mod wechatpay;

pub use alipay::{
    ALIPAY_CODES, ALIPAY_FAULTS, AlipayAct, AlipayActed, AlipayApp, AlipayAuthorisation,
    AlipayBooks, AlipayCertificateNumbers, AlipayControl, AlipayDelays, AlipayFault, AlipayKey,
    AlipayProduct, AlipayRefund, AlipaySettings, AlipayStartFault, AlipayStatus, AlipaySteered,
    AlipayTerms, AlipayTime, AlipayTrade, EmptyDay, SandboxAlipay, TradeKey,
};
pub use authority::{Authority, CertificateFault, PemIdentity};
pub use client::{ClientResponse, ClientSettings, MerchantClient};
pub use exchange::ExchangeFault;
pub use institution::faults::{FAULTS, InstitutionDelays, InstitutionFault, SandboxCall};
pub use institution::ledger::{InstitutionLedger, PaymentKey, PaymentState, SandboxPayment};
pub use institution::refunds::{
    RefundCapabilities, RefundTerms, SandboxRefund, SandboxRefundState,
};
pub use institution::terms::PaymentTerms;
pub use institution::{FaultControl, InstitutionSettings, SandboxInstitution};
pub use merchant::{
    MerchantFault, MerchantSettings, NotificationInbox, SandboxMerchant, SandboxNotification,
};
pub use payer::{BrowserPage, PayerFault, SimulatedPayer};
pub use server::StartFault;
pub use unionpay::control::UnionPayControl;
pub use unionpay::faults::{UNIONPAY_FAULTS, UnionPayDelays, UnionPayFault};
pub use unionpay::ledger::{
    UnionPayBook, UnionPayKey, UnionPayReceipt, UnionPayState, UnionPayTransaction,
};
pub use unionpay::request::UnionPayCall;
pub use unionpay::{
    SandboxUnionPay, UnionPayAuthority, UnionPayKeyFault, UnionPayMerchant, UnionPaySettings,
    UnionPayStartFault,
};
