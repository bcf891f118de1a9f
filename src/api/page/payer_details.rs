//! What a payer's browser shows of itself when it goes on from our page.
//!
//! Of the `User-Agent` two words of a bounded set remain; the rest is kept nowhere. All of it is the
//! payer's own text: it decides what this payer is offered, and proves nothing.

use http::{HeaderMap, header};

use crate::api::Peer;
use crate::api::page::payer_address::payer_address;
use crate::domain::identifiers::IpNetwork;
use crate::domain::personal::payer_context::{PayerDetails, PayerDevice, PayerIp, PayerWallet};

/// Products in the `User-Agent` of the wallets' own browsers.
const WALLETS: [(&str, PayerWallet); 4] = [
    ("MicroMessenger", PayerWallet::WeChat),
    ("AlipayClient", PayerWallet::Alipay),
    ("com.unionpay.", PayerWallet::UnionPay),
    ("UnionPay/", PayerWallet::UnionPay),
];

/// Words for devices, the telling ones first: an Android browser says `Linux` as well.
const DEVICES: [(&str, PayerDevice); 7] = [
    ("iPhone", PayerDevice::Ios),
    ("iPad", PayerDevice::Ios),
    ("iPod", PayerDevice::Ios),
    ("Android", PayerDevice::Android),
    ("Windows NT", PayerDevice::Desktop),
    ("Macintosh", PayerDevice::Desktop),
    ("X11", PayerDevice::Desktop),
];

/// Address, device and wallet of the browser that sent this request. The payer's id in an application is
/// nothing that a browser shows.
pub(super) fn payer_details(
    peer: &Peer,
    headers: &HeaderMap,
    trusted: &[IpNetwork],
) -> PayerDetails {
    let agent = headers.get(header::USER_AGENT);
    let agent = agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    PayerDetails {
        ip: Some(PayerIp::of(payer_address(peer, headers, trusted))),
        device: agent
            .as_deref()
            .map(|agent| named(&DEVICES, agent, PayerDevice::Other)),
        wallet: agent
            .as_deref()
            .map(|agent| named(&WALLETS, agent, PayerWallet::None)),
        identity: None,
    }
}

fn named<T: Copy>(words: &[(&str, T)], agent: &str, otherwise: T) -> T {
    let found = words.iter().find(|(word, _)| agent.contains(word));
    found.map_or(otherwise, |(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::HeaderValue;

    use super::*;
    use crate::api::AddressSource;

    fn shown(agent: Option<&'static str>) -> (Option<PayerDevice>, Option<PayerWallet>) {
        let peer = Peer {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            source: AddressSource::Connection,
            certificate: None,
        };
        let mut headers = HeaderMap::new();
        if let Some(agent) = agent {
            headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        }
        let details = payer_details(&peer, &headers, &[]);
        assert_eq!(details.ip.unwrap().expose(), "127.0.0.1");
        (details.device, details.wallet)
    }

    /// A wallet's browser is known by its own word, a device by its system's.
    #[test]
    fn a_browser_is_known_by_its_wallet_and_its_device() {
        for (agent, device, wallet) in [
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 \
                 (KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.49(0x1800312c) Language/zh_CN",
                PayerDevice::Ios,
                PayerWallet::WeChat,
            ),
            (
                "Mozilla/5.0 (Linux; U; Android 14; zh-CN) AppleWebKit/537.36 Mobile Safari/537.36 \
                 AlipayClient/10.6.0",
                PayerDevice::Android,
                PayerWallet::Alipay,
            ),
            (
                "Mozilla/5.0 (Linux; Android 14) Mobile Safari/537.36 (com.unionpay.mobilepay) \
                 (UnionPay/1.0 CloudPay)",
                PayerDevice::Android,
                PayerWallet::UnionPay,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
                PayerDevice::Desktop,
                PayerWallet::None,
            ),
            ("curl/8.5.0", PayerDevice::Other, PayerWallet::None),
        ] {
            assert_eq!(shown(Some(agent)), (Some(device), Some(wallet)), "{agent}");
        }
        assert_eq!(shown(None), (None, None), "nothing was shown");
    }
}
