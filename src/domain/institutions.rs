//! Which institutions there are, what each can do (6.2), and what each merchant agreed with which.
//!
//! Pure look-ups on one enrolment. Who may use which for what is decided in `judging`; how an
//! institution lately fared is told by its `breaker`.

mod accounts;
mod callback_reliability;
mod circuit_breaker;
mod credentials;
mod eligibility;

use std::collections::HashMap;
use std::time::Duration;

pub use accounts::{AccountKey, AccountProfile, AccountRole};
pub use callback_reliability::CallbackReliability;
pub use circuit_breaker::{
    BegunCall, BreakerDecision, BreakerState, BreakerWindow, CallEnd, CallPurpose, CircuitBreaker,
    Health, HealthSettings,
};
pub use credentials::{Credentials, Validity, is_one_in_force};
pub use eligibility::{IneligibleReason, Offer, OfferQuery};

use crate::domain::amount::Currency;
use crate::domain::identifiers::{AccountId, InstitutionId, MerchantId, ReceiverId, Timestamp};
use crate::domain::merchant::{Admission, Merchant};
use crate::domain::personal::MobileNo;

/// How the payer pays through one institution (5.1.1 to 5.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// The institution's page in the webview.
    Webview,
    /// The payment chatbot.
    Chatbot,
    /// The institution's SDK.
    Native,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Webview, Self::Chatbot, Self::Native];

    /// The modes offered so far: payment by chatbot comes with messages to the payer.
    pub const OFFERED: [Self; 2] = [Self::Webview, Self::Native];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Webview => "WEBVIEW",
            Self::Chatbot => "CHATBOT",
            Self::Native => "NATIVE",
        }
    }
}

/// What a merchant asks for (`businessType`, G-6): one mode, or a choice of institutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BusinessType {
    /// One of the three modes.
    Single(Mode),
    /// The payer chooses among institutions (5.1.4).
    Aggregated,
}

impl BusinessType {
    /// Reads the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "AGGREGATED" {
            return Some(Self::Aggregated);
        }
        Mode::ALL
            .into_iter()
            .find(|mode| mode.name() == name)
            .map(Self::Single)
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single(mode) => mode.name(),
            Self::Aggregated => "AGGREGATED",
        }
    }
}

/// What kind of payment it is (`transactionType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionType {
    /// 验密支付.
    PasswordPay,
    /// 免密支付.
    PasswordFreePay,
    /// 主扫.
    ScanPay,
    /// 被扫.
    CodePay,
}

impl TransactionType {
    /// Every type of payment; the personal services are no orders.
    pub const ALL: [Self; 4] = [
        Self::PasswordPay,
        Self::PasswordFreePay,
        Self::ScanPay,
        Self::CodePay,
    ];

    /// The types offered so far.
    pub const OFFERED: [Self; 1] = [Self::PasswordPay];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::PasswordPay => "PASSWORD_PAY",
            Self::PasswordFreePay => "PASSWORD_FREE_PAY",
            Self::ScanPay => "SCAN_PAY",
            Self::CodePay => "CODE_PAY",
        }
    }
}

/// What an adapter declares about its institution's dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is so or not by itself")]
pub struct Facts {
    /// After this long, "not found" means that a call never arrived (A5). At least the longest
    /// time a sent request can be on its way.
    pub visibility_ms: u64,
    /// It has a close call.
    pub can_close: bool,
    /// A close of a number it has not seen is remembered: a late create is then refused (A5).
    pub remembers_close: bool,
    /// Repeating an equal create is harmless and returns the same hand-over (A3).
    pub repeatable_create: bool,
    /// Repeating an equal refund call is harmless and answers how the refund stands (R4).
    pub repeatable_refund: bool,
    /// Calls per second it wants at most.
    pub calls_per_second: u32,
}

/// Which refunds an institution makes (R-6.1.5-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefundKinds {
    /// Of the whole sum.
    pub full: bool,
    /// Of a part of it.
    pub partial: bool,
    /// Several of one payment.
    pub repeated: bool,
}

/// A kind of refund that an institution does not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundLack {
    /// Of the whole sum.
    Full,
    /// Of a part of it.
    Partial,
    /// A further one of the same payment.
    Repeated,
}

impl RefundLack {
    /// The word on the wire (`reason`).
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "FULL_REFUND",
            Self::Partial => "PARTIAL_REFUND",
            Self::Repeated => "REPEATED_REFUND",
        }
    }
}

impl RefundKinds {
    /// All that the clause asks for.
    pub const ALL: Self = Self {
        full: true,
        partial: true,
        repeated: true,
    };
}

/// How money goes back through an institution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefundRules {
    /// Which refunds it makes.
    pub kinds: RefundKinds,
    /// How long after a payment money may be asked back.
    pub window: Duration,
}

/// A demand that an institution does not fulfil, as an operator recorded it: it is offered all the
/// same, and what it lacks is refused with this reason (R-6.1.5-2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// `R-6.1.5-2`, or the id of a MUST row of clause 6.2.
    pub requirement: String,
    /// Why it is offered all the same.
    pub reason: String,
    /// Who decided it.
    pub by: String,
    /// Since when. Unit: Unix seconds.
    pub since_s: i64,
}

/// The sums of one currency, both ends included. Unit: minor units of that currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmountRange {
    /// Of which money.
    pub currency: Currency,
    /// The smallest.
    pub minor_min: i64,
    /// The largest.
    pub minor_max: i64,
}

/// Payers by the first digits of their numbers. Who is excepted is excepted, whatever else says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payers {
    /// Only numbers that begin with one of these; all numbers when empty.
    pub only: Vec<String>,
    /// Never numbers that begin with one of these.
    pub except: Vec<String>,
}

impl Payers {
    /// Whether this payer is among them.
    pub fn include(&self, payer: &MobileNo) -> bool {
        let begins = |prefix: &String| payer.expose().starts_with(prefix.as_str());
        (self.only.is_empty() || self.only.iter().any(begins)) && !self.except.iter().any(begins)
    }
}

/// An institution as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionProfile {
    /// Its name in calls, paths and tables.
    pub id: InstitutionId,
    /// What payers read, in Chinese.
    pub name: String,
    /// What payers read, in English.
    pub name_en: String,
    /// https address of its logo.
    pub logo_url: Option<String>,
    /// Review state (R-4-3).
    pub admission: Admission,
    /// Taken out of service for new orders; queries, callbacks and refunds go on (F2).
    pub stopped: bool,
    /// Modes it offers.
    pub modes: Vec<Mode>,
    /// Money it settles in.
    pub currencies: Vec<Currency>,
    /// Refunds it makes, and until when.
    pub refunds: RefundRules,
    /// What it lacks and is offered without.
    pub waivers: Vec<Waiver>,
    /// What its dialect can do.
    pub facts: Facts,
    /// Those of the connection: while they cannot be used it takes nothing new, and what was begun there
    /// waits.
    pub credentials: Credentials,
}

impl InstitutionProfile {
    /// Whether it takes nothing new at this moment, by its own stop or for want of credentials.
    pub fn is_down(&self, now: Timestamp) -> bool {
        self.stopped || !self.credentials.are_usable(now)
    }
}

/// Where an institution is asked, and in which dialect: what was begun there is asked about nowhere
/// else (F2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionEndpoint {
    /// The name of its dialect.
    pub kind: Box<str>,
    /// `https://host[:port]`.
    pub url: Box<str>,
}

/// For which payments an institution is offered, and in which place of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which institution.
    pub institution: InstitutionId,
    /// Takes no new order; what was begun goes on (F2).
    pub stopped: bool,
    /// For these sums; those of a currency that is not named are not narrowed here.
    pub sums: Vec<AmountRange>,
    /// For these payers.
    pub payers: Payers,
    /// Place in the list: the smallest first.
    pub order: u32,
}

/// What a merchant agreed with an institution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// Whose.
    pub merchant: MerchantId,
    /// With whom.
    pub institution: InstitutionId,
    /// Our account there, over which its payments go.
    pub account: AccountId,
    /// Who receives its money there, by the institution's number.
    pub receiver: ReceiverId,
    /// Modes agreed.
    pub modes: Vec<Mode>,
    /// Kinds of payment agreed.
    pub transaction_types: Vec<TransactionType>,
    /// No new order; what was begun goes on (F2).
    pub stopped: bool,
    /// Currencies agreed, each with its sums.
    pub sums: Vec<AmountRange>,
    /// For these payers.
    pub payers: Payers,
    /// Opening hours, minutes of the day in Asia/Shanghai, end excluded; always when absent.
    pub hours: Option<(u16, u16)>,
}

/// Everybody enrolled, under one version of the configuration (F1).
#[derive(Debug, Clone, Default)]
pub struct RoutingTable {
    /// Grows with every swap; stored with each attempt (F2).
    pub version: u64,
    /// Merchants by id.
    pub merchants: HashMap<MerchantId, Merchant>,
    /// Institutions by id.
    pub institutions: HashMap<InstitutionId, InstitutionProfile>,
    /// What we are at them.
    pub accounts: HashMap<AccountKey, AccountProfile>,
    /// Routes in their configured order.
    pub routes: Vec<Route>,
    /// Contracts.
    pub contracts: HashMap<(MerchantId, InstitutionId), Contract>,
}

impl RoutingTable {
    /// The modes that both an institution offers and the merchant's contract names.
    pub fn available_modes(
        &self,
        merchant: &MerchantId,
        institution: &InstitutionProfile,
    ) -> Vec<Mode> {
        let key = (merchant.clone(), institution.id.clone());
        let agreed = self
            .contracts
            .get(&key)
            .map(|contract| contract.modes.as_slice());
        let agreed = agreed.unwrap_or_default();
        institution
            .modes
            .iter()
            .copied()
            .filter(|mode| agreed.contains(mode) && Mode::OFFERED.contains(mode))
            .collect()
    }

    /// Whether an account can be used at this moment: called with, and its answers proven.
    pub fn is_account_usable(
        &self,
        institution: &InstitutionId,
        account: &AccountId,
        now: Timestamp,
    ) -> bool {
        let known = self.accounts.get(&(institution.clone(), account.clone()));
        known.is_none_or(|account| account.credentials.are_usable(now))
    }

    /// The accounts at an institution.
    pub fn accounts_at<'a>(
        &'a self,
        institution: &'a InstitutionId,
    ) -> impl Iterator<Item = &'a AccountProfile> {
        let all = self.accounts.values();
        all.filter(move |account| account.institution == *institution)
    }

    /// What a merchant agreed with an institution, if it did.
    pub fn contract(
        &self,
        merchant: &MerchantId,
        institution: &InstitutionId,
    ) -> Option<&Contract> {
        let key = (merchant.clone(), institution.clone());
        self.contracts.get(&key)
    }
}
