//! What can be paid with: UnionPay's page in a browser, its application, a code to scan.

use std::time::Duration;

use crate::domain::attempt::Attempt;
use crate::domain::institutions::{CreateSend, Ending, Mode, Product, ReplyBinding, Visibility};
use crate::domain::personal::payer_context::{PayerDevice, PayerWallet};
use crate::institution::unionpay::codes::PaymentStart;

/// How long after the deadline of a payment it may still become known, and clocks may differ.
pub(super) const MARGIN: Duration = Duration::from_mins(5);

/// How long a code to scan is shown.
const CODE_LIFE: Duration = Duration::from_mins(3);

/// What all products have in common. Nothing that was begun can be revoked: it ends by its deadline.
const TIMED: Product = Product {
    binding: ReplyBinding::Echo,
    ending: Ending::Never,
    least_left: Duration::from_mins(1),
    ..Product::plain("", Visibility::AfterDeadline(MARGIN))
};

/// The page on a phone.
const WAP: Product = Product {
    id: "WAP",
    help: "a form that leads to UnionPay's page in a phone's browser",
    modes: &[Mode::Webview],
    create: CreateSend::Nothing,
    wallets: &[PayerWallet::UnionPay, PayerWallet::None],
    devices: &[PayerDevice::Ios, PayerDevice::Android, PayerDevice::Other],
    ..TIMED
};

/// The page on a desktop.
const WEB: Product = Product {
    id: "WEB",
    help: "a form that leads to UnionPay's page in a desktop's browser",
    modes: &[Mode::Webview],
    create: CreateSend::Nothing,
    wallets: &[PayerWallet::None],
    devices: &[PayerDevice::Desktop],
    ..TIMED
};

/// A code on a desktop.
const QR: Product = Product {
    id: "QR",
    help: "a code to scan with UnionPay's application or a bank's",
    modes: &[Mode::Webview],
    create: CreateSend::Once,
    wallets: &[PayerWallet::None],
    devices: &[PayerDevice::Desktop],
    action_life: Some(CODE_LIFE),
    pay_within: Some(CODE_LIFE),
    ..TIMED
};

/// In the merchant's application.
const APP: Product = Product {
    id: "APP",
    help: "a number that an application starts UnionPay's SDK with",
    modes: &[Mode::Native],
    create: CreateSend::Once,
    wallets: &[PayerWallet::None],
    ..TIMED
};

/// In order of preference.
pub(super) const PRODUCTS: &[Product] = &[WAP, WEB, QR, APP];

/// The product of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnionPayProduct {
    Wap,
    Web,
    Qr,
    App,
}

impl UnionPayProduct {
    /// `None` for a product of another dialect.
    pub(super) fn of(attempt: &Attempt) -> Option<Self> {
        match attempt.product.as_str() {
            "WAP" => Some(Self::Wap),
            "WEB" => Some(Self::Web),
            "QR" => Some(Self::Qr),
            "APP" => Some(Self::App),
            _ => None,
        }
    }

    /// Where its create goes.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Wap | Self::Web => "/gateway/api/frontTransReq.do",
            Self::Qr => "/gateway/api/backTransReq.do",
            Self::App => "/gateway/api/appTransReq.do",
        }
    }

    /// `txnSubType` of its create.
    pub(super) fn sub_type(self) -> &'static str {
        match self {
            Self::Wap | Self::Web | Self::App => "01",
            Self::Qr => "07",
        }
    }

    /// `bizType` of everything about it.
    pub(super) fn biz_type(self) -> &'static str {
        match self {
            Self::Wap | Self::Web | Self::App => "000201",
            Self::Qr => "000000",
        }
    }

    /// `channelType`: internet or mobile.
    pub(super) fn channel(self) -> &'static str {
        match self {
            Self::Web => "07",
            Self::Wap | Self::Qr | Self::App => "08",
        }
    }

    /// Whether the payer's browser brings the payment: its create sends nothing.
    pub(super) fn is_page(self) -> bool {
        match self {
            Self::Wap | Self::Web => true,
            Self::Qr | Self::App => false,
        }
    }

    /// Who may follow a failed try by another.
    pub(super) fn start(self) -> PaymentStart {
        match self {
            Self::Wap | Self::Web | Self::App => PaymentStart::Front,
            Self::Qr => PaymentStart::Scanned,
        }
    }
}
