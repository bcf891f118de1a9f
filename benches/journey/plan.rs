//! What is measured, and for how long: the command line.

use anyhow::{Result, bail};

/// A part that can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BenchPart {
    Place,
    Select,
    Query,
    /// Callbacks, and the notifications that follow.
    Callback,
    Full,
    Refund,
    /// Delivery of a backlog of notifications, while other merchants are notified.
    Backlog,
    /// Payers who take a while, and the polling of their payments.
    Polling,
    Algorithms,
    Latency,
    Overload,
    Memory,
    Startup,
    Commits,
    Pieces,
    /// The bytes of an order in the store.
    Sizes,
    /// The length of the write-ahead log over ten minutes; not part of the whole.
    Wal,
    /// Five million orders; not part of the whole.
    Large,
}

/// Enough to saturate its core without long queues.
const STEADY_CALLERS: usize = 64;

const PARTS: [(&str, BenchPart); 20] = [
    ("place", BenchPart::Place),
    ("select", BenchPart::Select),
    ("query", BenchPart::Query),
    ("callback", BenchPart::Callback),
    ("notify", BenchPart::Callback),
    ("full", BenchPart::Full),
    ("payment", BenchPart::Full),
    ("refund", BenchPart::Refund),
    ("backlog", BenchPart::Backlog),
    ("polling", BenchPart::Polling),
    ("algorithms", BenchPart::Algorithms),
    ("latency", BenchPart::Latency),
    ("overload", BenchPart::Overload),
    ("memory", BenchPart::Memory),
    ("startup", BenchPart::Startup),
    ("commits", BenchPart::Commits),
    ("pieces", BenchPart::Pieces),
    ("sizes", BenchPart::Sizes),
    ("wal", BenchPart::Wal),
    ("large", BenchPart::Large),
];

/// The parts, rounds and sizes of one run.
pub(crate) struct BenchPlan {
    pub(crate) parts: Vec<BenchPart>,
    /// Everything at full length: only then are the results written into the document.
    pub(crate) whole: bool,
    pub(crate) quick: bool,
    pub(crate) callers: Vec<usize>,
    pub(crate) rounds: usize,
}

impl BenchPlan {
    /// Parses the arguments; `--bench` is added by cargo.
    pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Self> {
        let mut plan = Self {
            parts: Vec::new(),
            whole: false,
            quick: false,
            callers: Vec::new(),
            rounds: 0,
        };
        let mut words = words.filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|word| word.parse().ok());
            let part = PARTS.iter().find(|(name, _)| *name == word);
            match (word.as_str(), part) {
                (_, Some((_, part))) if plan.parts.contains(part) => (),
                (_, Some((_, part))) => plan.parts.push(*part),
                ("--quick", _) => plan.quick = true,
                ("--callers", _) => plan.callers.extend(number()),
                ("--rounds", _) => plan.rounds = number().unwrap_or(0),
                _ => {
                    let names: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
                    let names = names.join(" ");
                    bail!("{word}: expected --quick, --callers N, --rounds N, or some of {names}");
                }
            }
        }
        plan.whole = plan.parts.is_empty() && !plan.quick && plan.callers.is_empty();
        if plan.parts.is_empty() {
            plan.parts = PARTS.iter().map(|(_, part)| *part).collect();
            plan.parts.dedup();
            plan.parts
                .retain(|part| !matches!(part, BenchPart::Large | BenchPart::Wal));
        }
        if plan.callers.is_empty() {
            plan.callers = if plan.quick {
                vec![16]
            } else {
                vec![16, 64, 256]
            };
        }
        if plan.rounds == 0 {
            plan.rounds = if plan.quick { 1 } else { 3 };
        }
        Ok(plan)
    }

    /// Callers of a steady-state point: enough to keep the gateway busy, or the requested number.
    pub(crate) fn steady_callers(&self) -> usize {
        let busy = self
            .callers
            .iter()
            .find(|callers| **callers == STEADY_CALLERS);
        busy.or(self.callers.first())
            .copied()
            .unwrap_or(STEADY_CALLERS)
    }

    /// A count, or a tenth of it in a quick run.
    pub(crate) fn sized(&self, count: usize) -> usize {
        if self.quick { count / 10 } else { count }
    }

    /// The same for a duration.
    pub(crate) fn lasting(&self, seconds: f64) -> std::time::Duration {
        std::time::Duration::from_secs_f64(if self.quick { seconds / 4.0 } else { seconds })
    }
}
