//! Offers in the gateway's books: what somebody holds and nobody acted on yet.

use crate::sandbox::alipay::books::{
    AlipayAct, AlipayActed, AlipayBooks, AlipayParty, TradeKey, may_be_paid,
};
use crate::sandbox::alipay::terms::{AlipayProduct, AlipayTerms};

/// An address, code or order string in somebody's hands; nothing exists at the gateway yet.
#[derive(Debug, Clone)]
pub(in crate::sandbox::alipay) struct AlipayOffer {
    pub(in crate::sandbox::alipay) party: AlipayParty,
    pub(in crate::sandbox::alipay) terms: AlipayTerms,
    pub(in crate::sandbox::alipay) notify_url: Option<String>,
    pub(in crate::sandbox::alipay) return_url: Option<String>,
    /// Unit: Unix milliseconds.
    pub(in crate::sandbox::alipay) dead_ms: i64,
}

impl AlipayOffer {
    pub(in crate::sandbox::alipay) fn key(&self) -> TradeKey {
        (
            self.party.seller_id.clone(),
            self.terms.out_trade_no.clone(),
        )
    }
}

impl AlipayBooks {
    /// Keeps an offer under its token. Known terms under another content are refused, and what is
    /// already paid or closed is not offered again.
    pub(in crate::sandbox::alipay) fn offer(
        &mut self,
        token: &str,
        offer: AlipayOffer,
        now_ms: i64,
    ) -> Result<(), &'static str> {
        if let Some(trade) = self.trade_mut(&offer.key(), now_ms) {
            may_be_paid(trade, &offer.terms)?;
        }
        self.offers.insert(token.to_owned(), offer);
        Ok(())
    }

    /// The token of an earlier code for this number, or why there is none.
    pub(in crate::sandbox::alipay) fn code_offered(
        &self,
        key: &TradeKey,
        terms: &AlipayTerms,
    ) -> Result<Option<String>, &'static str> {
        let earlier = self.offers.iter().find(|(_, offer)| {
            offer.key() == *key && offer.terms.product == AlipayProduct::Precreate
        });
        match earlier {
            None => Ok(None),
            Some((token, offer)) if offer.terms == *terms => Ok(Some(token.clone())),
            Some(_) => Err("ACQ.CONTEXT_INCONSISTENT"),
        }
    }

    /// The codes that payers can scan, as far as they were handed out.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        let codes = self
            .offers
            .iter()
            .filter(|(_, offer)| offer.terms.product == AlipayProduct::Precreate);
        codes.map(|(token, _)| token.as_str())
    }

    pub(in crate::sandbox::alipay) fn offered(&self, token: &str) -> Option<&AlipayOffer> {
        self.offers.get(token)
    }

    /// A payer acts on an offer: only now a trade comes into being.
    pub(in crate::sandbox::alipay) fn act_on_offer(
        &mut self,
        token: &str,
        act: AlipayAct,
        now_ms: i64,
    ) -> AlipayActed {
        let Some(offer) = self.offers.get(token).cloned() else {
            return AlipayActed::Refused("ACQ.TRADE_NOT_EXIST");
        };
        if now_ms >= offer.dead_ms {
            return AlipayActed::Refused("ACQ.TRADE_HAS_CLOSE");
        }
        let key = offer.key();
        let opened = self.open(&offer.party, offer.terms, offer.notify_url, now_ms);
        match opened {
            Ok(_) => self.act_on_trade(&key, act, now_ms),
            Err(sub_code) => AlipayActed::Refused(sub_code),
        }
    }
}
