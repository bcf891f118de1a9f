//! Which institutions there are, what each can do (6.2), and who may use which for which sum.
//!
//! Pure look-ups on one enrolment; health and past behaviour are handed in.

use std::collections::HashMap;

use crate::domain::amount::Amount;
use crate::domain::identifiers::{AccountId, InstitutionId, MerchantId, Timestamp};
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
    /// Calls per second it wants at most.
    pub calls_per_second: u32,
}

/// An institution as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Institution {
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
    /// What its dialect can do.
    pub facts: Facts,
}

/// For which payments an institution is offered, and in which place of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which institution.
    pub institution: InstitutionId,
    /// Smallest sum, in minor units.
    pub minor_min: i64,
    /// Largest sum, in minor units.
    pub minor_max: i64,
    /// Only payers whose number begins with one of these; everybody when empty.
    pub payer_prefixes: Vec<String>,
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
    /// Its account there.
    pub account: AccountId,
    /// Modes agreed.
    pub modes: Vec<Mode>,
    /// Kinds of payment agreed.
    pub transaction_types: Vec<TransactionType>,
    /// Smallest sum, in minor units.
    pub minor_min: i64,
    /// Largest sum, in minor units.
    pub minor_max: i64,
    /// Opening hours, minutes of the day in Asia/Shanghai, end excluded; always when absent.
    pub hours: Option<(u16, u16)>,
}

/// Why an institution is not offered to this payer for this order. Stable words of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Withheld {
    /// No contract between merchant and institution.
    NotContracted,
    /// The merchant may start nothing new (R-4-3): also not on its payers' pages.
    MerchantNotAdmitted,
    /// Not offered in this mode.
    ModeNotOffered,
    /// Not offered for this kind of payment.
    TransactionTypeNotOffered,
    /// The sum is below the smallest.
    AmountBelowLimit,
    /// The sum is above the largest.
    AmountAboveLimit,
    /// Outside opening hours.
    OutsideHours,
    /// Not open to this payer.
    PayerNotServed,
    /// Taken out of service, or not admitted.
    InstitutionDown,
}

impl Withheld {
    /// The word on the wire (`reason`).
    pub fn word(self) -> &'static str {
        match self {
            Self::NotContracted => "NOT_CONTRACTED",
            Self::MerchantNotAdmitted => "MERCHANT_NOT_ADMITTED",
            Self::ModeNotOffered => "MODE_NOT_OFFERED",
            Self::TransactionTypeNotOffered => "TRANSACTION_TYPE_NOT_OFFERED",
            Self::AmountBelowLimit => "AMOUNT_BELOW_LIMIT",
            Self::AmountAboveLimit => "AMOUNT_ABOVE_LIMIT",
            Self::OutsideHours => "OUTSIDE_HOURS",
            Self::PayerNotServed => "PAYER_NOT_SERVED",
            Self::InstitutionDown => "INSTITUTION_DOWN",
        }
    }
}

/// What is asked of the directory: one payment by one payer.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// For whom.
    pub merchant: &'a MerchantId,
    /// Who pays.
    pub payer: &'a MobileNo,
    /// How much.
    pub amount: Amount,
    /// What kind of payment.
    pub transaction_type: TransactionType,
    /// In which mode; any when absent.
    pub mode: Option<Mode>,
    /// When.
    pub now: Timestamp,
}

/// One institution's place in an answer.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Which.
    pub institution: &'a Institution,
    /// Why not, if not.
    pub withheld: Option<Withheld>,
}

/// Everybody enrolled, under one version of the configuration (F1).
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// Grows with every swap; stored with each attempt (F2).
    pub version: u64,
    /// Merchants by id.
    pub merchants: HashMap<MerchantId, Merchant>,
    /// Institutions by id.
    pub institutions: HashMap<InstitutionId, Institution>,
    /// Routes in their configured order.
    pub routes: Vec<Route>,
    /// Contracts.
    pub contracts: HashMap<(MerchantId, InstitutionId), Contract>,
}

impl Directory {
    /// Every routed institution for this payment, each with the reason where it is withheld: the
    /// payer's last one first, then in configured order (R-A2.4.1-3a).
    pub fn offers<'a>(
        &'a self,
        wanted: &Wanted<'_>,
        last_used: Option<&InstitutionId>,
    ) -> Vec<Offer<'a>> {
        let mut offers: Vec<(bool, u32, Offer<'a>)> = Vec::with_capacity(self.routes.len());
        for route in &self.routes {
            let Some(institution) = self.institutions.get(&route.institution) else {
                continue;
            };
            let withheld = self.withheld(institution, wanted);
            let elsewhere = last_used != Some(&institution.id);
            if offers
                .iter()
                .all(|(_, _, offer)| offer.institution.id != institution.id)
            {
                offers.push((
                    elsewhere,
                    route.order,
                    Offer {
                        institution,
                        withheld,
                    },
                ));
            }
        }
        offers.sort_by_key(|(elsewhere, order, _)| (*elsewhere, *order));
        offers.into_iter().map(|(_, _, offer)| offer).collect()
    }

    /// Why this institution is not open to this payment; `None` when it is.
    pub fn withheld(&self, institution: &Institution, wanted: &Wanted<'_>) -> Option<Withheld> {
        let key = (wanted.merchant.clone(), institution.id.clone());
        let Some(contract) = self.contracts.get(&key) else {
            return Some(Withheld::NotContracted);
        };
        let merchant = self.merchants.get(wanted.merchant);
        if merchant.is_none_or(|merchant| merchant.admission != Admission::Admitted) {
            return Some(Withheld::MerchantNotAdmitted);
        }
        if institution.stopped || institution.admission != Admission::Admitted {
            return Some(Withheld::InstitutionDown);
        }
        let offered = |mode: &Mode| {
            Mode::OFFERED.contains(mode)
                && institution.modes.contains(mode)
                && contract.modes.contains(mode)
        };
        let in_mode = match wanted.mode {
            Some(mode) => offered(&mode),
            None => Mode::ALL.iter().any(offered),
        };
        if !in_mode {
            return Some(Withheld::ModeNotOffered);
        }
        if !contract
            .transaction_types
            .contains(&wanted.transaction_type)
        {
            return Some(Withheld::TransactionTypeNotOffered);
        }
        if contract
            .hours
            .is_some_and(|hours| !is_open(hours, wanted.now))
        {
            return Some(Withheld::OutsideHours);
        }
        self.withheld_by_sum(contract, wanted)
    }

    /// The contract's sums, then the routes': one route that fits is enough.
    fn withheld_by_sum(&self, contract: &Contract, wanted: &Wanted<'_>) -> Option<Withheld> {
        let minor = wanted.amount.minor();
        let outside = |min: i64, max: i64| match minor {
            _ if minor < min => Some(Withheld::AmountBelowLimit),
            _ if minor > max => Some(Withheld::AmountAboveLimit),
            _ => None,
        };
        let serves = |route: &&Route| {
            route.payer_prefixes.is_empty()
                || route
                    .payer_prefixes
                    .iter()
                    .any(|p| wanted.payer.expose().starts_with(p.as_str()))
        };
        if let Some(reason) = outside(contract.minor_min, contract.minor_max) {
            return Some(reason);
        }
        let mut reason = Some(Withheld::PayerNotServed);
        for route in self
            .routes
            .iter()
            .filter(|r| r.institution == contract.institution)
            .filter(serves)
        {
            reason = outside(route.minor_min, route.minor_max);
            if reason.is_none() {
                break;
            }
        }
        reason
    }

    /// The modes that both an institution offers and the merchant's contract names.
    pub fn modes_open(&self, merchant: &MerchantId, institution: &Institution) -> Vec<Mode> {
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

    /// The merchant's account at an institution, if they have a contract.
    pub fn account(
        &self,
        merchant: &MerchantId,
        institution: &InstitutionId,
    ) -> Option<&AccountId> {
        self.contracts
            .get(&(merchant.clone(), institution.clone()))
            .map(|c| &c.account)
    }
}

/// Hours may pass midnight: 22:00 to 06:00.
fn is_open((from, until): (u16, u16), now: Timestamp) -> bool {
    let minute = now.minute_of_day();
    if from <= until {
        (from..until).contains(&minute)
    } else {
        minute >= from || minute < until
    }
}
