//! Products: the ways to pay that an institution sells (H5, JSAPI, a code to scan), as data.
//!
//! What differs from one product to the next stands in [`Product`]; what holds for all of an
//! institution's API in [`Facts`].

use std::time::Duration;

use crate::domain::identifiers::{ProductId, Timestamp};
use crate::domain::institutions::{CallbackPath, Mode};
use crate::domain::personal::payer_context::{PayerDetail, PayerDetails, PayerDevice, PayerWallet};

/// What an adapter declares about its institution's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What can be paid with, in order of preference.
    pub products: Vec<Product>,
    /// After this long, "not found" means that a refund never arrived (A5). At least the longest
    /// time a sent request can be in transit.
    pub refund_visibility: Duration,
    /// Repeating an identical refund call is harmless and returns the refund's status (R4).
    pub repeatable_refund: bool,
    /// How often it may be called.
    pub rates: Rates,
    /// Where its callbacks come to.
    pub callback_path: CallbackPath,
}

/// How often an institution may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Maximum number of calls per second that it accepts.
    pub calls_per_second: u32,
    /// The least time between two questions about one refund, and before the first.
    pub refund_question_gap: Duration,
}

impl Facts {
    /// The product of an attempt; one of which nothing can be concluded if it is not declared any
    /// more.
    pub fn product(&self, id: &ProductId) -> &Product {
        let mut all = self.products.iter();
        all.find(|one| one.id == id.as_str())
            .unwrap_or(&Product::UNDECLARED)
    }
}

/// A product as its dialect declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Its name in `routes.toml`, in the database and in logs: `H5`. Never changes.
    pub id: &'static str,
    /// What the payer gets.
    pub help: &'static str,
    /// The modes that it serves.
    pub modes: &'static [Mode],
    /// What a create sends.
    pub create: CreateSend,
    /// When "not found" proves that it can no longer be paid (A5).
    pub visibility: Visibility,
    /// What binds a reply to its request.
    pub binding: ReplyBinding,
    /// How an unpaid attempt is ended.
    pub ending: Ending,
    /// What it must be told of the payer.
    pub wants: &'static [PayerDetail],
    /// The wallets whose browser it works in; a payer whose wallet is unknown is not excluded.
    pub wallets: &'static [PayerWallet],
    /// The devices it works on; a payer whose device is unknown is not excluded.
    pub devices: &'static [PayerDevice],
    /// How a browser gets from our page to its payment action.
    pub opening: ActionOpening,
    /// How long its payment action can be used where the institution does not say.
    pub action_life: Option<Duration>,
    /// How long a payer has to pay, if less than the order: a code to scan is shown for a short
    /// time.
    pub pay_within: Option<Duration>,
    /// The time an order must still have when an attempt begins.
    pub least_left: Duration,
}

/// How a browser gets from our page to a payment action, where the action alone does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionOpening {
    /// As for any address, form or code: the institution is not told which page the payer came from.
    Plain,
    /// The institution checks that the payer comes from a page under our origin, so it is told that.
    FromOurOrigin,
    /// Its SDK parameters are passed to WeChat's own browser, which starts the payment.
    WeChatBridge,
}

/// What a create sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateSend {
    /// Nothing: the payment action is signed here and made anew each time. The attempt is ACCEPTED
    /// by the commit that writes its intent, for nothing about it is in doubt.
    Nothing,
    /// A request that is harmless to repeat, if equal, and then returns the payment action (A3).
    Repeatable,
    /// A request that is never repeated: afterwards there are only queries (A3).
    Once,
}

/// When "not found" proves something (A5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// This long after the last send: it never arrived. At least the longest time a sent request
    /// can be in transit.
    AfterSend(Duration),
    /// This long after the time by which the payer had to pay: nobody can pay any more (E4).
    AfterDeadline(Duration),
    /// Never by a query: only the settlement day's statement shows it.
    AfterStatement,
}

/// What binds a reply to the request it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyBinding {
    /// Its signature covers the request.
    Signed,
    /// It is signed and names our number, the receiver and the sum.
    Echo,
    /// It names nothing: only the connection it came on.
    Connection,
}

/// How an unpaid attempt is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By a close.
    Close,
    /// By a close, and a close of a number that the institution has not seen counts: a later create
    /// is refused (A5).
    RememberedClose,
    /// By a close once the payer has acted there; before that the institution knows nothing that it
    /// could close.
    CloseOnceActed,
    /// By a reverse, which gives back what was taken.
    Reverse,
    /// Not at all: it ends by its deadline.
    Never,
}

impl Product {
    /// What an attempt is treated as if its product is not declared any more: nothing is concluded and
    /// nothing repeated.
    pub const UNDECLARED: Self = Self {
        id: "",
        help: "",
        modes: &[],
        create: CreateSend::Once,
        visibility: Visibility::AfterStatement,
        binding: ReplyBinding::Connection,
        ending: Ending::Never,
        wants: &[],
        wallets: &[],
        devices: &[],
        opening: ActionOpening::Plain,
        action_life: None,
        pay_within: None,
        least_left: Duration::ZERO,
    };

    /// A product that serves every mode on every device, wants nothing and is only queried. Dialects
    /// change what differs.
    pub const fn plain(id: &'static str, visibility: Visibility) -> Self {
        Self {
            id,
            modes: &Mode::ALL,
            visibility,
            binding: ReplyBinding::Signed,
            wallets: &PayerWallet::ALL,
            devices: &PayerDevice::ALL,
            ..Self::UNDECLARED
        }
    }

    /// Its id as an attempt stores it.
    pub fn stored_id(&self) -> ProductId {
        ProductId::of_declared(self.id)
    }

    /// By when the payer must have paid, of an attempt that begins now.
    pub fn pay_by(&self, expires: Timestamp, now: Timestamp) -> Timestamp {
        let within = self.pay_within.map(|within| now.plus(within));
        within.map_or(expires, |within| within.min(expires))
    }

    /// Whether it works where this payer is, as far as is known.
    pub fn works_for(&self, payer: &PayerDetails) -> bool {
        let in_wallet = payer
            .wallet
            .is_none_or(|wallet| self.wallets.contains(&wallet));
        let on_device = payer
            .device
            .is_none_or(|device| self.devices.contains(&device));
        in_wallet && on_device
    }

    /// Whether it is known to work on this payer's device.
    pub fn has_its_device(&self, payer: &PayerDetails) -> bool {
        let works_on = |device| self.devices.contains(&device);
        payer
            .device
            .map_or_else(|| PayerDevice::ALL.into_iter().all(works_on), works_on)
    }

    /// Whether everything it wants of the payer is known.
    pub fn has_what_it_wants(&self, payer: &PayerDetails) -> bool {
        self.wants.iter().all(|detail| payer.has(*detail))
    }
}

impl Ending {
    /// Whether a close is sent for an attempt that the institution has or has not shown to know.
    pub fn closes(self, is_known_there: bool) -> bool {
        match self {
            Self::Close | Self::RememberedClose => true,
            Self::CloseOnceActed => is_known_there,
            Self::Reverse | Self::Never => false,
        }
    }

    /// The word in lists.
    pub fn word(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::RememberedClose => "close, also of an unknown number",
            Self::CloseOnceActed => "close once the payer acted",
            Self::Reverse => "reverse",
            Self::Never => "its deadline",
        }
    }
}

impl CreateSend {
    /// The word in lists.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Repeatable => "a repeatable request",
            Self::Once => "a request, once",
        }
    }
}

impl ReplyBinding {
    /// The word in lists.
    pub fn word(self) -> &'static str {
        match self {
            Self::Signed => "signature",
            Self::Echo => "echoed fields",
            Self::Connection => "connection",
        }
    }
}

impl Visibility {
    /// Its description in lists.
    pub fn describe(self) -> String {
        match self {
            Self::AfterSend(limit) => format!("{} s after the send", limit.as_secs()),
            Self::AfterDeadline(margin) => {
                format!("{} s after the deadline", margin.as_secs())
            }
            Self::AfterStatement => "by the day's statement".to_owned(),
        }
    }

    /// The same, but not before this long (`visibility_s`).
    #[must_use]
    pub fn at_least(self, least: Duration) -> Self {
        match self {
            Self::AfterSend(limit) => Self::AfterSend(limit.max(least)),
            Self::AfterDeadline(margin) => Self::AfterDeadline(margin.max(least)),
            Self::AfterStatement => Self::AfterStatement,
        }
    }
}
