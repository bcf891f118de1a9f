//! Configured institutions, their capabilities (6.2), and merchants' contracts with them.
//!
//! Pure look-ups on one configuration snapshot. Eligibility is decided in `eligibility`; an
//! institution's recent health is tracked by its `circuit_breaker`.

mod accounts;
mod callback_reliability;
mod circuit_breaker;
mod credentials;
mod eligibility;
mod messages;
mod products;

use std::collections::HashMap;
use std::time::Duration;

pub use accounts::{AccountKey, AccountProfile, AccountRole, CallbackPath};
pub use callback_reliability::CallbackReliability;
pub use circuit_breaker::{
    BegunCall, BreakerDecision, BreakerState, BreakerWindow, CallEnd, CallPurpose, CircuitBreaker,
    Health, HealthSettings,
};
pub use credentials::{Credentials, Validity, is_one_in_force};
pub use eligibility::{IneligibleReason, Offer, OfferQuery, PayerTelling};
pub use messages::{BodyFormat, MessageFormat, ShownFields};
pub use products::{
    ActionOpening, CreateSend, Ending, Facts, Product, Rates, ReplyBinding, Visibility,
};

use crate::domain::amount::Currency;
use crate::domain::amount::fee_terms::FeeTerms;
use crate::domain::identifiers::{
    AccountId, InstitutionId, MerchantId, ProductId, ReceiverId, Timestamp,
};
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

    /// Modes implemented so far. Chatbot payment requires messaging the payer, which does not exist
    /// yet.
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
    /// Every payment type. Personal services are not orders.
    pub const ALL: [Self; 4] = [
        Self::PasswordPay,
        Self::PasswordFreePay,
        Self::ScanPay,
        Self::CodePay,
    ];

    /// Types implemented so far.
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

/// Kinds of refund that an institution supports (R-6.1.5-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefundKinds {
    /// Full refund.
    pub full: bool,
    /// Partial refund.
    pub partial: bool,
    /// Several refunds of one payment.
    pub repeated: bool,
}

/// A kind of refund that an institution does not support.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundLack {
    /// Full refund.
    Full,
    /// Partial refund.
    Partial,
    /// Another refund of the same payment.
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
    /// All kinds that the clause requires.
    pub const ALL: Self = Self {
        full: true,
        partial: true,
        repeated: true,
    };
}

/// Refund rules of an institution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefundRules {
    /// Supported kinds.
    pub kinds: RefundKinds,
    /// How long after a payment a refund can be requested.
    pub window: Duration,
}

/// A requirement that an institution does not meet, as recorded by staff: it is offered anyway, and
/// requests for what it lacks are refused with this reason (R-6.1.5-2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// `R-6.1.5-2`, or the id of a MUST row of clause 6.2.
    pub requirement: String,
    /// Why it is offered anyway.
    pub reason: String,
    /// Who decided it.
    pub by: String,
    /// Start of the waiver. Unit: Unix seconds.
    pub since_s: i64,
}

/// Amounts of one currency, both ends included. Unit: minor units of that currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmountRange {
    /// The currency.
    pub currency: Currency,
    /// The smallest amount.
    pub minor_min: i64,
    /// The largest amount.
    pub minor_max: i64,
}

/// Payers, selected by mobile number prefix. `except` takes precedence over `only`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payers {
    /// Only numbers with one of these prefixes; all numbers when empty.
    pub only: Vec<String>,
    /// Never numbers with one of these prefixes.
    pub except: Vec<String>,
}

impl Payers {
    /// Whether this payer is included.
    pub fn include(&self, payer: &MobileNo) -> bool {
        let begins = |prefix: &String| payer.expose().starts_with(prefix.as_str());
        (self.only.is_empty() || self.only.iter().any(begins)) && !self.except.iter().any(begins)
    }
}

/// An institution as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionProfile {
    /// Its name in API calls, paths and tables.
    pub id: InstitutionId,
    /// Display name, in Chinese.
    pub name: String,
    /// Display name, in English.
    pub name_en: String,
    /// https URL of its logo.
    pub logo_url: Option<String>,
    /// Review state (R-4-3).
    pub admission: Admission,
    /// Disabled for new orders; queries, callbacks and refunds continue (F2).
    pub stopped: bool,
    /// Modes it supports.
    pub modes: Vec<Mode>,
    /// Settlement currencies.
    pub currencies: Vec<Currency>,
    /// Supported refunds and the refund window.
    pub refunds: RefundRules,
    /// Requirements that it does not meet and is offered without.
    pub waivers: Vec<Waiver>,
    /// What its API can do.
    pub facts: Facts,
    /// While these are unusable it gets no new payments, and pending ones wait.
    pub credentials: Credentials,
}

impl InstitutionProfile {
    /// Whether it accepts no new payments now: it is stopped or has no usable credentials.
    pub fn is_down(&self, now: Timestamp) -> bool {
        self.stopped || !self.credentials.are_usable(now)
    }
}

/// Address and adapter kind of an institution. Calls about a payment started there go nowhere else
/// (F2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstitutionEndpoint {
    /// Adapter kind.
    pub kind: Box<str>,
    /// `https://host[:port]`.
    pub url: Box<str>,
}

/// Which payments an institution is offered for, and its position in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The institution.
    pub institution: InstitutionId,
    /// Accepts no new orders; pending ones continue (F2).
    pub stopped: bool,
    /// Amount limits; a currency that is not listed is unlimited here.
    pub sums: Vec<AmountRange>,
    /// Payer limits.
    pub payers: Payers,
    /// Position in the list, smallest first.
    pub order: u32,
}

/// A merchant's contract with an institution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// The merchant.
    pub merchant: MerchantId,
    /// The institution.
    pub institution: InstitutionId,
    /// Our account there, over which its payments go.
    pub account: AccountId,
    /// Who receives its money there, by the institution's number.
    pub receiver: ReceiverId,
    /// Modes agreed.
    pub modes: Vec<Mode>,
    /// Products agreed.
    pub products: Vec<ProductId>,
    /// The institution's fee, if it was agreed.
    pub fee: Option<FeeTerms>,
    /// Contracted transaction types.
    pub transaction_types: Vec<TransactionType>,
    /// No new orders; pending ones continue (F2).
    pub stopped: bool,
    /// Contracted currencies, each with its amount limits.
    pub sums: Vec<AmountRange>,
    /// Payer limits.
    pub payers: Payers,
    /// Opening hours: minutes of the day in Asia/Shanghai, end excluded. Always open when absent.
    pub hours: Option<(u16, u16)>,
}

/// Merchants, institutions, routes and contracts of one configuration version (F1).
#[derive(Debug, Clone, Default)]
pub struct RoutingTable {
    /// Increases with every reload; stored with each attempt (F2).
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
    /// The modes that the institution supports, the merchant's contract lists and we implement.
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
        match self.accounts.get(&(institution.clone(), account.clone())) {
            Some(account) => account.credentials.are_usable(now),
            // One that is not configured any more can sign nothing.
            None => self.accounts_at(institution).next().is_none(),
        }
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
