//! What merchants ask (A3.1, A3.2, A3.4, X-1 to ), and
//! the events it is owed: syntax, then identity, then fields, then the
//! journey; what leaves is signed once the caller is known.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};

use crate::api::order::Extras;
use crate::api::reading::{Asked, NAMING};
use crate::api::{Answer, Api, Endpoint, Peer, events, order, query, refund};
use crate::domain::fields::Fields;
use crate::domain::identifiers::RefundOrderNo;
use crate::domain::institutions::{BusinessType, Offer};
use crate::domain::order::OrderState;
use crate::domain::refusal::Refusal;
use crate::flow::admit_request::refused_callers::Caller;
use crate::flow::admit_request::{Admitted, Knock, NotAdmitted, Purpose, Spending, admit_request};
use crate::flow::answer::once::{Refused, Spent};
use crate::flow::answer::sign_answer;
use crate::flow::close_order::close_order;
use crate::flow::list_institutions::list_institutions;
use crate::flow::place_order::place_order;
use crate::flow::read_order::{read_order, refresh};
use crate::flow::refunds::refund_order::{read_refund, refund_order};
use crate::flow::register::Register;
use crate::flow::select_institution::{Answered, Outcome, select_institution};
use crate::flow::weigh_evidence::noticed::notice_look;
use crate::world::signals::Signal;

impl Api {
    /// A merchant's request: syntax, then identity, then fields, then the journey; what leaves is
    /// signed once the caller is known (`interface.md`, Order of judgement).
    pub(in crate::api) async fn merchant(
        &self,
        register: &Register,
        endpoint: Endpoint<'_>,
        interface: &'static str,
        request: &Request<Bytes>,
        peer: Peer,
    ) -> Answer {
        let now = self.world.clock.now();
        if !is_json(request.headers()) {
            return self.refused(interface, &Refusal::MediaTypeWrong);
        }
        let fields = match Fields::parse(request.body()) {
            Ok(fields) => fields,
            Err(fault) => return self.refused(interface, &fault.into()),
        };
        let purpose = match endpoint {
            Endpoint::Place | Endpoint::Select => Purpose::Start,
            Endpoint::Close | Endpoint::Refund => Purpose::Continue,
            Endpoint::Institutions
            | Endpoint::Query
            | Endpoint::RefundQuery
            | Endpoint::Events
            | Endpoint::Callback(_)
            | Endpoint::Keys
            | Endpoint::Interface
            | Endpoint::Page(_)
            | Endpoint::PageStatus(_) => Purpose::Read,
        };
        let spending = Spending {
            store: &*self.store,
            reads: &self.reads,
        };
        let knock = Knock {
            address: peer.address,
            certificate: peer.certificate,
            purpose,
        };
        let admitted = admit_request(&self.gate, register, spending, request, &knock, now).await;
        let mut known = None;
        let (mut answer, proven) = match admitted {
            Err(refused) => (
                self.not_admitted((interface, peer), &refused),
                refused.proven.map(|proven| proven.label),
            ),
            Ok(caller) => {
                known = Some(caller.merchant().clone());
                let label: Box<str> = caller.label().into();
                let key = caller.key().clone();
                let key = key.as_str();
                let done = self.journey(register, endpoint, &fields, caller).await;
                let answer = match done {
                    Ok((response, result, Spent { .. })) => Answer {
                        response,
                        interface,
                        result,
                    },
                    Err(refused) => self.refused_known(interface, &refused.into_refusal()),
                };
                if is_of_standing(&answer.response) {
                    let caller = Caller::Key(key);
                    self.refused_callers.count(caller, interface, answer.result);
                }
                (answer, Some(label))
            }
        };
        if let Some(label) = proven {
            let question = (request, &*label);
            sign_answer(&register.platform, question, &mut answer.response, now).await;
        }
        if self.world.exchange_log.is_on() {
            let asked = (request, &*register.platform.origin);
            self.log_exchange(&fields, known.as_ref(), asked, (now, &answer));
        }
        answer
    }

    /// L5: whoever was refused is counted for the audit log, by key where one was proven.
    fn not_admitted(
        &self,
        (interface, peer): (&'static str, Peer),
        refused: &NotAdmitted,
    ) -> Answer {
        let Some(proven) = &refused.proven else {
            let answer = self.refused(interface, &refused.refusal);
            if is_of_standing(&answer.response) {
                self.count_refused(peer, interface, answer.result);
            }
            return answer;
        };
        let answer = self.refused_known(interface, &refused.refusal);
        if is_of_standing(&answer.response) {
            let caller = Caller::Key(&proven.key);
            self.refused_callers.count(caller, interface, answer.result);
        }
        answer
    }

    async fn journey(
        &self,
        register: &Register,
        endpoint: Endpoint<'_>,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> Done {
        match endpoint {
            Endpoint::Place => self.place(register, fields, caller).await,
            Endpoint::Institutions => self.institutions(register, fields, caller).await,
            Endpoint::Select => self.select(register, fields, caller).await,
            Endpoint::Query => self.query(register, fields, caller).await,
            Endpoint::Close => self.close(register, fields, caller).await,
            Endpoint::Refund => self.refund(register, fields, caller).await,
            Endpoint::RefundQuery => self.refund_query(register, fields, caller).await,
            Endpoint::Events => self.events(fields, caller).await,
            Endpoint::Callback(_)
            | Endpoint::Keys
            | Endpoint::Interface
            | Endpoint::Page(_)
            | Endpoint::PageStatus(_) => {
                let (_, spent) = caller.into_reader(&self.reads)?;
                Err(spent.refuse(Refusal::PathUnknown))
            }
        }
    }

    async fn place(&self, register: &Register, fields: &Fields<'_>, caller: Admitted) -> Done {
        let read = order::placing(fields, caller.merchant(), &register.directory);
        let (caller, (terms, wanted)) = caller.with(&*self.store, read).await?;
        let placed = place_order(&*self.store, &self.world, register, caller, terms).await?;
        let (answered, spent) = placed;
        let listed = answered.order.terms.business_type == BusinessType::Aggregated
            && answered.order.state == OrderState::Open;
        let offers = if listed {
            Some(self.offers(register, &answered).await?)
        } else {
            None
        };
        Ok(listing(register, &answered, &wanted.with(offers), spent))
    }

    /// Reads only: the nonce is spent in memory (Q5).
    async fn institutions(
        &self,
        register: &Register,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> Done {
        let (merchant, spent) = caller.into_reader(&self.reads)?;
        let (named, wanted) = match order::listing(fields, &merchant) {
            Ok(asked) => asked,
            Err(refusal) => return Err(spent.refuse(refusal)),
        };
        let found = match read_order(&*self.store, &named).await {
            Ok(found) => found,
            Err(refusal) => return Err(spent.refuse(refusal)),
        };
        let outcome = match found.state {
            OrderState::Open => Outcome::Accepted,
            OrderState::Paid => Outcome::AlreadyPaid,
            OrderState::Closed => Outcome::Closed,
        };
        let answered = Answered {
            order: found,
            outcome,
            fresh: false,
        };
        let offers = Some(self.offers(register, &answered).await?);
        Ok(listing(register, &answered, &wanted.with(offers), spent))
    }

    async fn offers<'a>(
        &self,
        register: &'a Register,
        answered: &Answered,
    ) -> Result<Vec<Offer<'a>>, Refused> {
        Ok(list_institutions(&*self.store, &self.world, register, &answered.order).await?)
    }

    async fn select(&self, register: &Register, fields: &Fields<'_>, caller: Admitted) -> Done {
        let read = order::choosing(fields, caller.merchant());
        let (caller, (named, choice, wanted)) = caller.with(&*self.store, read).await?;
        let by = (&named, caller.into_cause());
        let selected = select_institution(&*self.store, &self.world, register, by, choice).await?;
        let (answered, spent) = selected;
        Ok(listing(register, &answered, &wanted.with(None), spent))
    }

    /// Reads only: the nonce is spent in memory (Q5).
    async fn query(&self, register: &Register, fields: &Fields<'_>, caller: Admitted) -> Done {
        let (merchant, spent) = caller.into_reader(&self.reads)?;
        let asked = async {
            let asked = Asked::of(fields, &merchant, &NAMING)?;
            let found = read_order(&*self.store, &asked.order()?).await?;
            refresh(&*self.store, &self.world, register, found).await
        };
        match asked.await {
            Ok(found) => {
                notice_look(&self.world, &found, Signal::Looked);
                Ok((query::answer(&found), "ACCEPTED", spent))
            }
            Err(refusal) => Err(spent.refuse(refusal)),
        }
    }

    async fn close(&self, register: &Register, fields: &Fields<'_>, caller: Admitted) -> Done {
        let read = Asked::of(fields, caller.merchant(), &NAMING).and_then(|asked| asked.order());
        let (caller, named) = caller.with(&*self.store, read).await?;
        let closed = close_order(&*self.store, &self.world, register, caller, &named).await?;
        let (found, spent) = closed;
        let outcome = match found.state {
            OrderState::Closed => Outcome::Closed,
            OrderState::Paid => Outcome::AlreadyPaid,
            OrderState::Open => Outcome::Pending,
        };
        let answered = Answered {
            order: found,
            outcome,
            fresh: false,
        };
        Ok(listing(register, &answered, &Extras::default(), spent))
    }

    async fn refund(&self, register: &Register, fields: &Fields<'_>, caller: Admitted) -> Done {
        let (store, now) = (&*self.store, self.world.clock.now());
        let made = (
            RefundOrderNo::mint(now, self.world.entropy.draw()),
            store.epoch(),
        );
        let merchant = caller.merchant().clone();
        let enrolled = register.directory.merchants.get(&merchant);
        let read = async {
            let asked = Asked::of(fields, &merchant, &refund::FIELDS)?;
            refund::asked(&asked, store, enrolled, made).await
        };
        let (caller, (paid, asked)) = caller.with(store, read.await).await?;
        let refunded = refund_order(store, &self.world, register, caller, (&paid, asked)).await?;
        let (refunded, spent) = refunded;
        told(refund::answer(&refunded), spent)
    }

    /// Reads only: the nonce is spent in memory (Q5).
    async fn refund_query(
        &self,
        register: &Register,
        fields: &Fields<'_>,
        caller: Admitted,
    ) -> Done {
        let (merchant, spent) = caller.into_reader(&self.reads)?;
        let asked = async {
            let asked = Asked::of(fields, &merchant, &refund::QUERY_FIELDS)?;
            let key = refund::key(&asked)?;
            let refunded = read_refund(&*self.store, &self.world, register, &key).await?;
            refund::answer(&refunded)
        };
        told(asked.await, spent)
    }

    /// What a merchant that was down missed. Reads only: the nonce is spent in memory (Q5).
    async fn events(&self, fields: &Fields<'_>, caller: Admitted) -> Done {
        let (merchant, spent) = caller.into_reader(&self.reads)?;
        let asked = async {
            let asked = Asked::of(fields, &merchant, &events::FIELDS)?;
            let (after, room) = events::asked(&asked)?;
            let found = self.store.events_after(&merchant, after, room).await?;
            Ok((events::answer(&found, after)?, "ACCEPTED"))
        };
        told(asked.await, spent)
    }
}

/// An answer with its word for the metrics, and the proof that nobody can ask for it again (Q5); or a
/// refusal of which the same is true.
type Done = Result<(Response<Bytes>, &'static str, Spent), Refused>;

/// What was answered to a request whose nonce is spent.
fn told(answer: Result<(Response<Bytes>, &'static str), Refusal>, spent: Spent) -> Done {
    match answer {
        Ok((response, word)) => Ok((response, word, spent)),
        Err(refusal) => Err(spent.refuse(refusal)),
    }
}

fn listing(
    register: &Register,
    answered: &Answered,
    extras: &Extras<'_>,
    spent: Spent,
) -> (Response<Bytes>, &'static str, Spent) {
    let response = order::answer(register, answered, extras);
    (response, answered.outcome.word(), spent)
}

/// Whether an answer says that its caller is not who it should be, or may not.
fn is_of_standing(response: &Response<Bytes>) -> bool {
    matches!(
        response.status(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    )
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return false;
    };
    let Ok(text) = only.to_str() else {
        return false;
    };
    let mut parts = text.split(';').map(str::trim);
    let json = parts
        .next()
        .is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    json && parts.all(|parameter| parameter.eq_ignore_ascii_case("charset=utf-8"))
}
