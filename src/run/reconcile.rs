//! Reconciling where the store is: in the running gateway, asked over the control socket, or in a
//! process of its own while no gateway runs.

mod request;

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::request::{INSTITUTION_UNKNOWN, of, source};
use super::in_force::ActiveConfiguration;
use super::machine::ConnectionBudget;
use super::{open_store, wall_clock};
use crate::config::Config;
use crate::domain::statement::{StatementDifference, UnusableStatement};
use crate::flow::admit_request::refused_callers::RefusedCallers;
use crate::flow::reconcile_statement::{
    DifferenceOutcome, NotReconciled, ReconciliationResult, ReconciliationScope,
    ReconciliationStep, reconcile_statement,
};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::ledger::{Reconciliation, ReconciliationLedger};
use crate::workers::exchange_log::ExchangeLogWriter;
use crate::world::exchange_log::Recorder;
use crate::world::{Clock, SystemClock};

/// Begins a question of the control socket; the rest of its line is a [`Question`] in JSON.
pub(super) const REQUEST_PREFIX: &str = "reconcile ";

/// How long whoever asked may take to take a line of the answer.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// How long no line may come before whoever asked gives up: a slow institution answers page by page.
const SILENCE_MAX: Duration = Duration::from_mins(5);

/// Progress is told each time so many more lines were compared, or movements asked about.
const PROGRESS_LINES: u64 = 50_000;
const PROGRESS_QUERIES: usize = 50;

/// What is to be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReconcileRequest {
    /// Whose statement.
    pub institution: String,
    /// Of which day: `yyyy-MM-dd` or `yyyyMMdd`.
    pub date: String,
    /// The file it came as, whole path; without one the institution is asked.
    pub statement: Option<PathBuf>,
}

/// A line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "told",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum ReconcileMessage {
    /// How far it is.
    Progress {
        /// Lines compared.
        lines: u64,
        /// Movements asked about, of so many.
        asked: usize,
        /// How many are to be asked about; 0 until that is known.
        to_ask: usize,
    },
    /// A difference, and what happened to it.
    Difference {
        /// What differs, as a stable word.
        kind: String,
        /// `PAYMENT` or `REFUND`.
        movement: String,
        /// The number it is known by at both.
        number: String,
        /// What we have.
        expected: String,
        /// What the statement has.
        found: String,
        /// `repaired` or `open_break`.
        fate: String,
    },
    /// The end of it.
    Reconciled {
        /// With whom.
        institution: String,
        /// `yyyyMMdd`.
        date: String,
        /// Lines and sums of the statement, in words.
        statement: String,
        /// Its lines.
        lines: u64,
        /// Our own movements of that day.
        ours: u64,
        /// Differences that were repaired.
        repaired: usize,
        /// Differences that remain.
        remaining: usize,
        /// Incidents that are new or open again.
        raised: u64,
        /// Incidents that are gone.
        resolved: u64,
    },
    /// The statement is not used; nothing was touched.
    Refused {
        /// A stable word.
        reason: String,
        /// What was expected, what was found.
        detail: String,
    },
    /// It could not be ended; to be repeated, nothing is done twice.
    Failed {
        /// Why.
        why: String,
    },
}

impl ReconcileMessage {
    fn of(difference: &StatementDifference, fate: DifferenceOutcome) -> Self {
        Self::Difference {
            kind: difference.kind.word().to_owned(),
            movement: difference.movement.name().to_owned(),
            number: difference.number.to_string(),
            expected: difference.expected.to_string(),
            found: difference.found.to_string(),
            fate: fate.word().to_owned(),
        }
    }

    /// Whether it was refused because no institution has that id.
    pub fn is_institution_unknown(&self) -> bool {
        matches!(self, Self::Refused { reason, .. } if reason == INSTITUTION_UNKNOWN)
    }

    fn refused(why: UnusableStatement) -> Self {
        Self::Refused {
            reason: why.reason.to_owned(),
            detail: why.detail,
        }
    }

    fn ended(of: &Reconciliation, outcome: &ReconciliationResult) -> Self {
        let remaining = outcome.remaining();
        Self::Reconciled {
            institution: of.institution.to_string(),
            date: of.day.date.as_str().to_owned(),
            statement: outcome.totals.text(),
            lines: outcome.totals.lines,
            ours: outcome.ours,
            repaired: outcome.noted.len().saturating_sub(remaining),
            remaining,
            raised: outcome.raised,
            resolved: outcome.resolved,
        }
    }
}

/// Where the gateway's own reconciling happens; one at a time.
pub(super) struct Reconciler {
    pub(super) store: Arc<Store>,
    pub(super) ledger: Arc<dyn ReconciliationLedger>,
    pub(super) in_force: Arc<ArcSwap<ActiveConfiguration>>,
    running: tokio::sync::Mutex<()>,
    tasks: Mutex<JoinSet<()>>,
}

impl Reconciler {
    pub(super) fn new(
        store: Arc<Store>,
        ledger: Arc<dyn ReconciliationLedger>,
        in_force: Arc<ArcSwap<ActiveConfiguration>>,
    ) -> Self {
        Self {
            store,
            ledger,
            in_force,
            running: tokio::sync::Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// Does what a line of the control socket asks, beside whatever else is asked there.
    pub(super) fn begin(self: &Arc<Self>, asked: &str, by: String, stream: UnixStream) {
        let (this, asked) = (Arc::clone(self), asked.to_owned());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move { this.answer(&asked, &by, stream).await });
    }

    /// Ends what runs. It can be repeated: nothing is done twice.
    pub(super) async fn stop(&self) {
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        tasks.shutdown().await;
    }

    async fn answer(&self, asked: &str, by: &str, mut stream: UnixStream) {
        let (tell, mut told) = unbounded_channel();
        let work = async {
            let tell = tell;
            let failed = |why: String| {
                let _ = tell.send(ReconcileMessage::Failed { why });
            };
            let Ok(_alone) = self.running.try_lock() else {
                return failed("another reconciliation is running; wait for its end".to_owned());
            };
            let question = match serde_json::from_str(asked) {
                Ok(question) => question,
                Err(error) => return failed(format!("the question cannot be read: {error}")),
            };
            let in_force = self.in_force.load_full();
            let books = ReconciliationScope {
                store: &self.store,
                ledger: &*self.ledger,
                world: &in_force.api.world,
                snapshot: &in_force.api.snapshot,
            };
            carry_out(&books, &question, by, &tell).await;
        };
        let say = async {
            let mut is_heard = true;
            while let Some(told) = told.recv().await {
                if is_heard {
                    let line = serde_json::to_string(&told).unwrap_or_default() + "\n";
                    let taken = timeout(WRITE_WITHIN, stream.write_all(line.as_bytes())).await;
                    // Whoever asked has gone; what was begun is ended all the same.
                    is_heard = matches!(taken, Ok(Ok(())));
                }
            }
        };
        tokio::join!(work, say);
    }
}

/// Reconciles, and tells each step and what came of it.
async fn carry_out(
    books: &ReconciliationScope<'_>,
    question: &ReconcileRequest,
    by: &str,
    tell: &UnboundedSender<ReconcileMessage>,
) {
    // Whoever asked may have gone.
    let say = |told| {
        let _ = tell.send(told);
    };
    let of = match of(books, question, by) {
        Ok(of) => of,
        Err(why) => return say(ReconcileMessage::refused(why)),
    };
    let at = Mutex::new(0_u64);
    let progress = |step: ReconciliationStep| {
        let mut lines = at.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, to_ask) = match step {
            ReconciliationStep::Compared(compared)
                if compared.saturating_sub(*lines) < PROGRESS_LINES =>
            {
                return;
            }
            ReconciliationStep::Compared(compared) => {
                *lines = compared;
                (0, 0)
            }
            ReconciliationStep::Asked(asked, to_ask) if asked % PROGRESS_QUERIES == 0 => {
                (asked, to_ask)
            }
            ReconciliationStep::Asked(..) => return,
        };
        say(ReconcileMessage::Progress {
            lines: *lines,
            asked,
            to_ask,
        });
    };
    let done = match source(books, question, &of).await {
        Ok(mut source) => reconcile_statement(books, &of, &mut *source, &progress).await,
        Err(fault) => Err(fault),
    };
    match done {
        Ok(outcome) => {
            for (difference, fate) in &outcome.noted {
                say(ReconcileMessage::of(difference, *fate));
            }
            tracing::info!(institution.id = %of.institution, date = of.day.date.as_str(),
                lines = outcome.totals.lines, remaining = outcome.remaining(),
                raised = outcome.raised, "a statement was reconciled");
            say(ReconcileMessage::ended(&of, &outcome));
        }
        Err(NotReconciled::Unusable(why)) => {
            tracing::warn!(institution.id = %of.institution, date = of.day.date.as_str(),
                reason = why.reason, "a statement was refused");
            say(ReconcileMessage::refused(why));
        }
        Err(NotReconciled::Store(fault)) => say(ReconcileMessage::Failed {
            why: fault.to_string(),
        }),
    }
}

/// Asks the gateway on this socket, and hears each line of its answer.
///
/// # Errors
/// Nobody listens there, it belongs to somebody else, or what came back is no answer.
pub fn ask(
    socket: &Path,
    question: &ReconcileRequest,
    mut hear: impl FnMut(ReconcileMessage),
) -> io::Result<()> {
    let question = serde_json::to_string(question).map_err(io::Error::other)?;
    let stream = super::control::asking(socket, format!("{REQUEST_PREFIX}{question}\n"))?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    for line in BufReader::new(stream).lines() {
        hear(serde_json::from_str(&line?).map_err(io::Error::other)?);
    }
    Ok(())
}

/// Opens the store, which no gateway holds, reconciles, and lets go of it.
///
/// # Errors
/// The store cannot be opened, or a connection cannot be made.
pub async fn alone(
    config: Config,
    question: &ReconcileRequest,
    by: &str,
    mut hear: impl FnMut(ReconcileMessage),
) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new()?);
    let wall = Arc::new(SystemClock::start());
    let opened = open_store(&config, &metrics, Arc::new(()))?;
    let (store, ledger, log) = (Arc::new(opened.store), opened.ledger, opened.exchange_log);
    wall_clock::at_start(&*store.nodes, &wall).await?;
    let clock: Arc<dyn Clock> = wall;
    let entries = super::settings::entries(&config, &metrics);
    // Nobody is answered here, so nobody is refused.
    let refused_callers = Arc::new(RefusedCallers::new(Box::new(|_| [0; 32])));
    let recorder: Arc<dyn Recorder> = Arc::<ExchangeLogWriter>::clone(&entries);
    let beside = (recorder, refused_callers);
    let files = ConnectionBudget::without_callers();
    let first = ActiveConfiguration::first((config, files), &store, &clock, &metrics, beside);
    let in_force = first.context("[outbound]")?;
    let books = ReconciliationScope {
        store: &store,
        ledger: &*ledger,
        world: &in_force.api.world,
        snapshot: &in_force.api.snapshot,
    };
    let (tell, mut told) = unbounded_channel();
    let work = async {
        let tell = tell;
        carry_out(&books, question, by, &tell).await;
    };
    let say = async {
        while let Some(told) = told.recv().await {
            hear(told);
        }
    };
    let (ended, stop) = watch::channel(false);
    let work = async {
        work.await;
        let _ = ended.send(true);
    };
    tokio::join!(work, say, entries.write(&*log, &*clock, stop));
    Ok(())
}
