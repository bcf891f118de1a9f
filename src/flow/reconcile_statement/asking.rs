//! A statement that is asked for: account by account, page by page.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;

use crate::domain::attempt::Stamp;
use crate::domain::identifiers::{AccountId, CalendarDay};
use crate::domain::statement::{Line, Totals, Unusable};
use crate::flow::answer::aside;
use crate::flow::reconcile_statement::{Books, NotReconciled, Source};
use crate::institution::{Asked, Institution, Page, Slow, Wanted};
use crate::store::ledger::Reconciled;
use crate::world::{Errand, Party, Patience, SendError, World};

/// Lines asked for at once: a page of them stays below [`PAGE_BYTES_MAX`].
const PAGE_LINES_MAX: u32 = 4_000;

/// Bytes of a page that are read; a longer answer is none.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// How long a page may take.
const PAGE_PATIENCE: Patience = Patience {
    head: Duration::from_secs(20),
    whole: Duration::from_secs(30),
    body_bytes_max: PAGE_BYTES_MAX,
};

/// Tries of one page: reading a statement changes nothing.
const TRIES: u32 = 3;

/// The institution's own answers.
pub struct FromInstitution<'a> {
    world: &'a World,
    adapter: Arc<dyn Institution>,
    date: CalendarDay,
    accounts: std::collections::btree_set::IntoIter<AccountId>,
    now: Option<Reading>,
}

/// Where an account's statement stands.
struct Reading {
    account: AccountId,
    counted: Totals,
    claimed: Option<Totals>,
}

impl<'a> FromInstitution<'a> {
    /// Of every account under contract, and of every other one over which money moved that day.
    ///
    /// # Errors
    /// The institution is not configured, or gives no statements over a call.
    pub async fn new(books: &'a Books<'_>, of: &Reconciled) -> Result<Self, NotReconciled> {
        let adapter = books.register.adapters.get(&of.institution);
        let adapter = adapter.ok_or_else(|| {
            let detail = format!(
                "expected a configured institution, found {}",
                of.institution
            );
            Unusable::new("institution_unknown", detail)
        })?;
        if adapter.statements().is_none() {
            let detail = "its dialect has no call for statements; give its file with --statement";
            return Err(Unusable::new("no_statement", detail).into());
        }
        let moved = books.ledger.accounts(&of.institution, &of.day).await?;
        let contracts = books.register.directory.contracts.values();
        let agreed = contracts
            .filter(|contract| contract.institution == of.institution)
            .map(|contract| contract.account.clone());
        let accounts: BTreeSet<AccountId> = agreed.chain(moved).collect();
        Ok(Self {
            world: books.world,
            adapter: Arc::clone(adapter),
            date: of.day.date.clone(),
            accounts: accounts.into_iter(),
            now: None,
        })
    }

    async fn page(&self, wanted: &Wanted) -> Result<Page, Unusable> {
        let mut said = Unusable::new("no_answer", "the institution was not asked");
        for _ in 0..TRIES {
            let Some((mut request, asked)) = self.request(wanted).await else {
                return Err(Unusable::new("no_answer", "the call cannot be signed"));
            };
            request.extensions_mut().insert(Errand("statement", None));
            let party = Party::Institution(self.adapter.id().clone());
            let sent = self.world.outbound.send(&party, request, PAGE_PATIENCE);
            said = match sent.await {
                Err(
                    SendError::NotSent(why)
                    | SendError::KeptBack(why)
                    | SendError::OurShortage(why)
                    | SendError::Unknown(why),
                ) => Unusable::new("no_answer", why),
                Ok(reply) => {
                    let Some(statements) = self.adapter.statements() else {
                        return Err(said);
                    };
                    match statements.read(wanted, &asked, &reply, self.world.clock.now()) {
                        Err(fault) if fault.reason == "no_answer" => fault,
                        read => return read,
                    }
                }
            };
        }
        Err(said)
    }

    async fn request(&self, wanted: &Wanted) -> Option<(Request<Bytes>, Asked)> {
        let stamp = Stamp {
            now: self.world.clock.now(),
            nonce: self.world.entropy.draw(),
        };
        let Some(Slow { turns, adapter }) = self.adapter.slow() else {
            return self.adapter.statements()?.ask(wanted, &stamp);
        };
        let wanted = wanted.clone();
        aside(&turns, move || adapter.statements()?.ask(&wanted, &stamp)).await?
    }
}

#[async_trait]
impl Source for FromInstitution<'_> {
    async fn next(&mut self) -> Result<Option<Vec<Line>>, Unusable> {
        loop {
            let begun = self.now.take().or_else(|| {
                self.accounts.next().map(|account| Reading {
                    account,
                    counted: Totals::default(),
                    claimed: None,
                })
            });
            let Some(mut reading) = begun else {
                return Ok(None);
            };
            let wanted = Wanted {
                account: reading.account.clone(),
                date: self.date.clone(),
                after: reading.counted.lines,
                limit: PAGE_LINES_MAX,
            };
            let page = self.page(&wanted).await?;
            page.lines.iter().for_each(|line| reading.counted.add(line));
            reading.follow(&page)?;
            if page.more {
                self.now = Some(reading);
            }
            if !page.lines.is_empty() {
                return Ok(Some(page.lines));
            }
        }
    }
}

impl Reading {
    fn follow(&mut self, page: &Page) -> Result<(), Unusable> {
        let claimed = self.claimed.get_or_insert_with(|| page.totals.clone());
        if *claimed != page.totals {
            let detail = "expected the sums of the first page, found others: the institution booked \
                          something meanwhile; ask again";
            return Err(Unusable::new("changed_meanwhile", detail));
        }
        if !page.more && *claimed != self.counted {
            let (said, found) = (claimed.text(), self.counted.text());
            let detail = format!("account {}: expected {said}, found {found}", self.account);
            return Err(Unusable::new("cut_off", detail));
        }
        Ok(())
    }
}
