//! Pretend institutions of the `standard` dialect and a pretend merchant: real HTTPS servers with
//! their own books, for demonstrations and tests. Written from the wire formats and as strict as the
//! real thing; shares nothing with the gateway but `signature`. Memory only; no money anywhere.
//!
//! What goes wrong on demand stands in [`FAULTS`]: by the last two digits of the sum, or by
//! `POST /control/next {"fault": "no_answer", "times": 1, "call": "create"}` at the institution.
//! Faults of answers that a sum asks for show at the first create or refund call only; what came of
//! it can then be asked. At refunds the refund's own sum counts. `GET /control/faults` publishes the same table, `GET /control/books` the book.
//!
//! | Sum ends in | Fault |
//! |---|---|
//! | `61` `62` `63` | slow answer; none, connection held; none, connection closed |
//! | `64` `65` | 503 and nothing done; 500 although done |
//! | `66` `67` | forged signature on the answer; unlisted status word |
//! | `68` `69` | payment refused; paid and called back before the answer |
//! | `71` `72` | close refused; money taken after a confirmed close |
//! | `81` `82` `85` | callback twice; late; never |
//! | `83` `84` | first callback with another sum; with a forged signature |
//! | `91` `93` | refund on its way, succeeds later; fails later |
//! | `92` `94` | refund failed for good; said to have failed, succeeds later all the same |

mod authority;
mod client;
mod clock;
mod exchange;
mod institution;
mod merchant;
mod payer;
mod refusal;
mod server;
mod watched;

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
pub use payer::{BrowserPage, PayerFault, PretendPayer};
pub use server::StartFault;
