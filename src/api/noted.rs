//! What a merchant asked about an order, or a payer chose, and what the answer was: noted for whoever must
//! explain it.

use bytes::Bytes;
use http::Request;

use crate::api::{Answer, Api};
use crate::domain::fields::Fields;
use crate::domain::identifiers::{MerchantId, OrderKey, PageToken, Timestamp};
use crate::domain::refusal::Refusal;
use crate::flow::trail::named;
use crate::world::trail::{Answered, Asked, Note};

impl Api {
    /// Notes it. Who names another merchant's order is noted as a stranger, as is whoever was not
    /// known (`known`: who is) and whoever says again what was said before, which anybody could who
    /// heard it. A question that was answered is not worth a note: merchants ask every second.
    pub(in crate::api) fn note(
        &self,
        fields: &Fields<'_>,
        known: Option<&MerchantId>,
        (request, origin): (&Request<Bytes>, &str),
        (at, answer): (Timestamp, &Answer),
    ) {
        let is_question = ["X-1", "X-5", "A3.2", "events"].contains(&answer.interface);
        if is_question && !answer.response.status().is_client_error() {
            return;
        }
        let Some(about) = named(fields) else {
            return;
        };
        let is_repeat = answer.result == Refusal::NonceSpent.code();
        let merchant = fields.text("merchantId").and_then(Result::ok);
        let path = request.uri().path_and_query();
        let path = path.map_or("/", |target| target.as_str());
        self.world.trail.note(Note {
            about,
            at,
            took: self.world.clock.now().since(at),
            with: format!("merchant {}", merchant.unwrap_or_default()),
            what: answer.interface.to_owned(),
            verdict: answer.result.to_owned(),
            is_stranger: is_repeat || known.is_none_or(|known| merchant != Some(known.as_str())),
            is_paying: false,
            asked: Asked::of(request, format!("{origin}{path}")),
            answered: Some(Answered::of(&answer.response)),
        });
    }

    /// Notes what was chosen on a payer's page. Whoever holds its address may do so, and is proven by
    /// nothing else: that address is not written down.
    pub(in crate::api) fn note_choice(
        &self,
        token: PageToken,
        request: &Request<Bytes>,
        origin: &str,
        (at, answer): (Timestamp, &Answer),
    ) {
        self.world.trail.note(Note {
            about: OrderKey::OfPage(token),
            at,
            took: self.world.clock.now().since(at),
            with: "payer".to_owned(),
            what: "page".to_owned(),
            verdict: answer.result.to_owned(),
            is_stranger: true,
            is_paying: false,
            asked: Asked::of(request, format!("{origin}/pay/***")),
            answered: Some(Answered::of(&answer.response)),
        });
    }
}
