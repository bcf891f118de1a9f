//! What is known of the payer's surroundings while an attempt begins: address, device, wallet, and
//! the payer's id in an application. Belongs to the attempt, not to the order (Q7).
//!
//! Address and id are personal: they can be exposed or sealed, never printed (D1).

use std::fmt;
use std::net::IpAddr;

use crate::domain::identifiers::Malformed;

/// What a product may have to be told of the payer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayerDetail {
    /// The address that the payer's device calls from.
    ClientIp,
    /// The kind of device.
    Device,
    /// The payer's id in an application of ours, and which one.
    OpenId,
}

impl PayerDetail {
    /// The request field that holds it.
    pub fn field(self) -> &'static str {
        match self {
            Self::ClientIp => "payerClientIp",
            Self::Device => "payerDevice",
            Self::OpenId => "payerOpenId",
        }
    }
}

/// The kind of device that a payer uses (`payerDevice`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayerDevice {
    /// An iPhone or iPad.
    Ios,
    /// A phone or tablet with Android.
    Android,
    /// A desktop computer.
    Desktop,
    /// Anything else.
    Other,
}

impl PayerDevice {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Ios, Self::Android, Self::Desktop, Self::Other];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ios => "IOS",
            Self::Android => "ANDROID",
            Self::Desktop => "DESKTOP",
            Self::Other => "OTHER",
        }
    }

    /// Parses the name on the wire.
    pub fn parse(name: &str) -> Result<Self, Malformed> {
        let mut all = Self::ALL.into_iter();
        all.find(|one| one.name() == name).ok_or(Malformed {
            expected: "one of IOS ANDROID DESKTOP OTHER",
        })
    }
}

/// The wallet in whose browser a payer is (`payerWallet`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayerWallet {
    /// 微信.
    WeChat,
    /// 支付宝.
    Alipay,
    /// 云闪付.
    UnionPay,
    /// In none.
    None,
}

impl PayerWallet {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::WeChat, Self::Alipay, Self::UnionPay, Self::None];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::WeChat => "WECHAT",
            Self::Alipay => "ALIPAY",
            Self::UnionPay => "UNIONPAY",
            Self::None => "NONE",
        }
    }

    /// Parses the name on the wire.
    pub fn parse(name: &str) -> Result<Self, Malformed> {
        let mut all = Self::ALL.into_iter();
        all.find(|one| one.name() == name).ok_or(Malformed {
            expected: "one of WECHAT ALIPAY UNIONPAY NONE",
        })
    }
}

/// The address that a payer's device calls from (`payerClientIp`), in its canonical text: neither
/// port nor zone, an IPv4 address in IPv6 clothes as IPv4.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PayerIp(IpAddr);

impl PayerIp {
    /// Parses an address of at most 45 characters.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let address: Option<IpAddr> = (text.len() <= 45).then(|| text.parse().ok()).flatten();
        address.map(Self::of).ok_or(Malformed {
            expected: "an IPv4 or IPv6 address, without port and zone",
        })
    }

    /// The address of a connection.
    pub fn of(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }

    /// The canonical text, for the institution that wants it and for sealing.
    pub fn expose(&self) -> String {
        self.0.to_string()
    }
}

/// The payer's id in one application (`payerOpenId`).
#[derive(Clone, PartialEq, Eq)]
pub struct PayerOpenId(Box<str>);

impl PayerOpenId {
    /// Parses 1 to 128 of `A-Z a-z 0-9 _ -`.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if is_name(text, 128) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed {
                expected: "1 to 128 of A-Z a-z 0-9 _ -",
            })
        }
    }

    /// The id, for the institution and for sealing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// An application of ours at an institution (`payerAppId`): not personal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayerAppId(Box<str>);

impl PayerAppId {
    /// Parses 1 to 32 of `A-Z a-z 0-9 _ -`.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if is_name(text, 32) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed {
                expected: "1 to 32 of A-Z a-z 0-9 _ -",
            })
        }
    }

    /// Its number at the institution.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(text: &str, length_max: usize) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=length_max).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Who the payer is in an application: an id means nothing without its application.
#[derive(Clone, PartialEq, Eq)]
pub struct PayerIdentity {
    /// The payer's id.
    pub open_id: PayerOpenId,
    /// The application.
    pub app: PayerAppId,
}

/// What is known of a payer's surroundings; everything may be missing.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PayerDetails {
    /// The address.
    pub ip: Option<PayerIp>,
    /// The device.
    pub device: Option<PayerDevice>,
    /// The wallet.
    pub wallet: Option<PayerWallet>,
    /// The payer in an application.
    pub identity: Option<PayerIdentity>,
}

impl PayerDetails {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        ip: None,
        device: None,
        wallet: None,
        identity: None,
    };

    /// Whether a detail is known.
    pub fn has(&self, detail: PayerDetail) -> bool {
        match detail {
            PayerDetail::ClientIp => self.ip.is_some(),
            PayerDetail::Device => self.device.is_some(),
            PayerDetail::OpenId => self.identity.is_some(),
        }
    }

    /// Only these details: an attempt keeps what its product wants and nothing else.
    #[must_use]
    pub fn only(&self, wanted: &[PayerDetail]) -> Self {
        let wants = |detail| wanted.contains(&detail);
        Self {
            ip: self.ip.filter(|_| wants(PayerDetail::ClientIp)),
            device: self.device.filter(|_| wants(PayerDetail::Device)),
            wallet: None,
            identity: self.identity.clone().filter(|_| wants(PayerDetail::OpenId)),
        }
    }
}

/// Names what is known, never a value.
impl fmt::Debug for PayerDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = [
            PayerDetail::ClientIp,
            PayerDetail::Device,
            PayerDetail::OpenId,
        ];
        let known = details.into_iter().filter(|detail| self.has(*detail));
        f.write_str("PayerDetails ")?;
        f.debug_list().entries(known).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address has one spelling, and neither port nor zone.
    #[test]
    fn an_address_is_canonical() {
        for (text, canonical) in [
            ("203.0.113.9", "203.0.113.9"),
            ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
        ] {
            let read = PayerIp::parse(text).map(|ip| ip.expose());
            assert_eq!(read.as_deref(), Ok(canonical), "{text}");
        }
        let long = format!("{}1", "0".repeat(45));
        for bad in [
            "",
            "203.0.113.9:80",
            "[2001:db8::1]:80",
            "fe80::1%eth0",
            "203.0.113",
            "203.0.113.009",
            "shop.example",
            " 203.0.113.9",
            &long,
        ] {
            assert!(PayerIp::parse(bad).is_err(), "{bad}");
        }
    }

    /// D1: neither address nor id is printed.
    #[test]
    fn a_payers_surroundings_are_not_printed() {
        let context = PayerDetails {
            ip: PayerIp::parse("203.0.113.9").ok(),
            identity: Some(PayerIdentity {
                open_id: PayerOpenId::parse("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o").unwrap(),
                app: PayerAppId::parse("wxd678efh567hg6787").unwrap(),
            }),
            ..PayerDetails::UNKNOWN
        };
        assert_eq!(format!("{context:?}"), "PayerDetails [ClientIp, OpenId]");
    }

    /// An attempt keeps what its product wants and nothing else.
    #[test]
    fn only_what_is_wanted_is_kept() {
        let context = PayerDetails {
            ip: PayerIp::parse("203.0.113.9").ok(),
            device: Some(PayerDevice::Ios),
            wallet: Some(PayerWallet::WeChat),
            identity: None,
        };
        assert_eq!(context.only(&[]), PayerDetails::UNKNOWN);
        let kept = context.only(&[PayerDetail::ClientIp]);
        assert!(kept.has(PayerDetail::ClientIp) && !kept.has(PayerDetail::Device));
    }

    /// Ids have the alphabet and the length that every institution takes.
    #[test]
    fn an_id_of_another_alphabet_or_length_is_refused() {
        for bad in ["", "a b", "a.b", "ä", &"a".repeat(129)] {
            assert!(PayerOpenId::parse(bad).is_err(), "{bad}");
        }
        assert!(PayerOpenId::parse(&"a".repeat(128)).is_ok());
        assert!(PayerAppId::parse(&"a".repeat(33)).is_err());
    }
}
