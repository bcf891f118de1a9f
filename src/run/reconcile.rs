//! Reconciliation runs where the store is: in the running gateway, requested over the control
//! socket, or in a process of its own while no gateway runs.

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
use super::in_force::{ActiveConfiguration, SharedParts};
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
use crate::store::ledger::{Reconciliation, ReconciliationLedger};

use crate::world::{Clock, SystemClock};

/// The prefix of such a request on the control socket; the rest of the line is a
/// [`ReconcileRequest`] in JSON.
pub(super) const REQUEST_PREFIX: &str = "reconcile ";

/// How long the requester may take to read a line of the reply.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// How long the requester waits for the next line: a slow institution answers page by page.
const SILENCE_MAX: Duration = Duration::from_mins(5);

/// Progress is reported after this many more lines compared, or movements queried.
const PROGRESS_LINES: u64 = 50_000;
const PROGRESS_QUERIES: usize = 50;

/// A request to reconcile a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReconcileRequest {
    /// The institution.
    pub institution: String,
    /// The day: `yyyy-MM-dd` or `yyyyMMdd`.
    pub date: String,
    /// Absolute path of the statement file; without one it is fetched from the institution.
    pub statement: Option<PathBuf>,
}

/// A line of the reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "message",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum ReconcileMessage {
    /// Progress.
    Progress {
        /// Lines compared.
        lines: u64,
        /// Movements queried so far.
        asked: usize,
        /// Movements to query; 0 until that is known.
        to_ask: usize,
    },
    /// A difference and its outcome.
    Difference {
        /// What differs, as a stable word.
        kind: String,
        /// `PAYMENT` or `REFUND`.
        movement: String,
        /// The movement's number, known to both sides.
        number: String,
        /// Our value.
        expected: String,
        /// The statement's value.
        found: String,
        /// `repaired` or `open_break`.
        outcome: String,
    },
    /// The result.
    Reconciled {
        /// The institution.
        institution: String,
        /// `yyyyMMdd`.
        date: String,
        /// A text with the statement's lines and sums.
        statement: String,
        /// The statement's lines.
        lines: u64,
        /// Our own movements of that day.
        ours: u64,
        /// Differences that were repaired.
        repaired: usize,
        /// Differences that remain.
        remaining: usize,
        /// Breaks that are new or open again.
        raised: u64,
        /// Breaks that are resolved.
        resolved: u64,
    },
    /// The statement is rejected; nothing was changed.
    Refused {
        /// A stable word.
        reason: String,
        /// What was expected, what was found.
        detail: String,
    },
    /// It could not be finished; it can be repeated, and nothing is done twice.
    Failed {
        /// Why.
        why: String,
    },
}

impl ReconcileMessage {
    fn of(difference: &StatementDifference, outcome: DifferenceOutcome) -> Self {
        Self::Difference {
            kind: difference.kind.word().to_owned(),
            movement: difference.movement.name().to_owned(),
            number: difference.number.to_string(),
            expected: difference.expected.to_string(),
            found: difference.found.to_string(),
            outcome: outcome.word().to_owned(),
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
            repaired: outcome.recorded.len().saturating_sub(remaining),
            remaining,
            raised: outcome.raised,
            resolved: outcome.resolved,
        }
    }
}

/// The gateway's reconciliations, one at a time.
pub(super) struct Reconciler {
    pub(super) ledger: Arc<dyn ReconciliationLedger>,
    pub(super) in_force: Arc<ArcSwap<ActiveConfiguration>>,
    running: tokio::sync::Mutex<()>,
    tasks: Mutex<JoinSet<()>>,
}

impl Reconciler {
    pub(super) fn new(
        ledger: Arc<dyn ReconciliationLedger>,
        in_force: Arc<ArcSwap<ActiveConfiguration>>,
    ) -> Self {
        Self {
            ledger,
            in_force,
            running: tokio::sync::Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// Handles a request of the control socket in the background.
    pub(super) fn begin(self: &Arc<Self>, line: &str, by: String, stream: UnixStream) {
        let (this, line) = (Arc::clone(self), line.to_owned());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move { this.answer(&line, &by, stream).await });
    }

    /// Aborts what runs. It can be repeated: nothing is done twice.
    pub(super) async fn stop(&self) {
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        tasks.shutdown().await;
    }

    async fn answer(&self, line: &str, by: &str, mut stream: UnixStream) {
        let (sender, mut messages) = unbounded_channel();
        let work = async {
            let sender = sender;
            let failed = |why: String| {
                let _ = sender.send(ReconcileMessage::Failed { why });
            };
            let Ok(_guard) = self.running.try_lock() else {
                return failed("another reconciliation is running; wait until it ends".to_owned());
            };
            let request = match serde_json::from_str(line) {
                Ok(request) => request,
                Err(error) => return failed(format!("the request cannot be read: {error}")),
            };
            let in_force = self.in_force.load_full();
            let scope = ReconciliationScope {
                flow: in_force.api.scope(),
                ledger: &*self.ledger,
            };
            carry_out(&scope, &request, by, &sender).await;
        };
        let reply = async {
            let mut is_connected = true;
            while let Some(message) = messages.recv().await {
                if is_connected {
                    let line = serde_json::to_string(&message).unwrap_or_default() + "\n";
                    let written = timeout(WRITE_WITHIN, stream.write_all(line.as_bytes())).await;
                    // The requester has gone; the work is finished anyway.
                    is_connected = matches!(written, Ok(Ok(())));
                }
            }
        };
        tokio::join!(work, reply);
    }
}

/// Reconciles, and reports each step and the result.
async fn carry_out(
    scope: &ReconciliationScope<'_>,
    request: &ReconcileRequest,
    by: &str,
    sender: &UnboundedSender<ReconcileMessage>,
) {
    // The requester may have gone.
    let report = |message| {
        let _ = sender.send(message);
    };
    let of = match of(scope, request, by) {
        Ok(of) => of,
        Err(why) => return report(ReconcileMessage::refused(why)),
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
        report(ReconcileMessage::Progress {
            lines: *lines,
            asked,
            to_ask,
        });
    };
    let done = match source(scope, request, &of).await {
        Ok(mut source) => reconcile_statement(scope, &of, &mut *source, &progress).await,
        Err(fault) => Err(fault),
    };
    match done {
        Ok(outcome) => {
            for (difference, result) in &outcome.recorded {
                report(ReconcileMessage::of(difference, *result));
            }
            tracing::info!(institution.id = %of.institution, date = of.day.date.as_str(),
                lines = outcome.totals.lines, remaining = outcome.remaining(),
                raised = outcome.raised, "a statement was reconciled");
            report(ReconcileMessage::ended(&of, &outcome));
        }
        Err(NotReconciled::Unusable(why)) => {
            tracing::warn!(institution.id = %of.institution, date = of.day.date.as_str(),
                reason = why.reason, "a statement was refused");
            report(ReconcileMessage::refused(why));
        }
        Err(NotReconciled::Store(fault)) => report(ReconcileMessage::Failed {
            why: fault.to_string(),
        }),
    }
}

/// Sends a request to the gateway on this socket, and passes on each line of the reply.
///
/// # Errors
/// Nobody listens there, it belongs to another user, or the reply cannot be parsed.
pub fn ask(
    socket: &Path,
    request: &ReconcileRequest,
    mut on_message: impl FnMut(ReconcileMessage),
) -> io::Result<()> {
    let request = serde_json::to_string(request).map_err(io::Error::other)?;
    let stream = super::control::connect_and_send(socket, format!("{REQUEST_PREFIX}{request}\n"))?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    for line in BufReader::new(stream).lines() {
        on_message(serde_json::from_str(&line?).map_err(io::Error::other)?);
    }
    Ok(())
}

/// Opens the store while no gateway holds it, reconciles, and closes it.
///
/// # Errors
/// The store cannot be opened, or the institutions' connections cannot be built.
pub async fn alone(
    config: Config,
    request: &ReconcileRequest,
    by: &str,
    mut on_message: impl FnMut(ReconcileMessage),
) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new()?);
    let wall = Arc::new(SystemClock::start());
    let opened = open_store(&config, &metrics, Arc::new(()))?;
    let (store, ledger, log) = (Arc::new(opened.store), opened.ledger, opened.exchange_log);
    wall_clock::at_start(&*store.nodes, &wall).await?;
    let clock: Arc<dyn Clock> = wall;
    let entries = super::settings::entries(&config, &metrics);
    // Nobody sends requests here, so nobody is rejected.
    let refused_callers = Arc::new(RefusedCallers::new(Box::new(|_| [0; 32])));
    let shared = SharedParts::of(&store, &clock, &metrics, &entries, &refused_callers);
    let files = ConnectionBudget::without_callers();
    let first = ActiveConfiguration::first(config, files, shared);
    let in_force = first.context("[outbound]")?;
    let scope = ReconciliationScope {
        flow: in_force.api.scope(),
        ledger: &*ledger,
    };
    let (sender, mut messages) = unbounded_channel();
    let work = async {
        let sender = sender;
        carry_out(&scope, request, by, &sender).await;
    };
    let reply = async {
        while let Some(message) = messages.recv().await {
            on_message(message);
        }
    };
    let (ended, stop) = watch::channel(false);
    let work = async {
        work.await;
        let _ = ended.send(true);
    };
    tokio::join!(work, reply, entries.write(&*log, &*clock, stop));
    Ok(())
}
