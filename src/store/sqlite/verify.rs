//! Reads the whole file for `domain/verification`, order by order: five tables and the audit log
//! are read in parallel, each sorted by `pay_order_no`, so that one order at a time is in memory.
//! The journal and the log have no such index; sorting them uses temporary files.

mod side_table;

use std::path::Path;

use rusqlite::{Connection, Statement};

use crate::domain::attempt::AttemptState;
use crate::domain::audit::AuditEntry;
use crate::domain::event::EventType;
use crate::domain::identifiers::{AttemptId, InstitutionId, PayOrderNo, RefundOrderNo, Timestamp};
use crate::domain::order::OrderState;
use crate::domain::refund::RefundState;
use crate::domain::verification::{
    AttemptRow, AuditRecord, AuditSummary, BlockHead, BlockRow, Blocks, Breach, BreachSink, Chain,
    EntryRow, EventNumberCheck, EventRow, OrderRow, RefundRow, Report, StoredOrder, block_hash,
};
use crate::store::OpenError;
use crate::store::sqlite::loading::{Columns, named};
use crate::store::sqlite::{SqliteFault, file};
use crate::store::verify::StoreVerifier;
use side_table::{SideTable, unreadable, why};

/// Maximum number of file errors reported by `SQLite`'s own check.
const FILE_FAULTS_MAX: u32 = 100;

// The first column of each statement is the order number, and its rows are sorted by it.

const ORDERS: &str =
    "SELECT pay_order_no, merchant_id, minor, currency, state, paying_attempt, reserved_minor,
    version, due_at IS NOT NULL FROM orders ORDER BY pay_order_no";

const ATTEMPTS: &str =
    "SELECT pay_order_no, attempt_id, seq, institution_id, minor, currency, state,
    receipt_minor, receipt_currency FROM attempts ORDER BY pay_order_no, seq";

const REFUNDS: &str =
    "SELECT pay_order_no, refund_order_no, seq, attempt_id, minor, currency, state,
    cause, late_success, excess_minor, receipt_minor IS NOT NULL AND receipt_currency IS NOT NULL
    AND refunded_at IS NOT NULL FROM refunds ORDER BY pay_order_no, seq";

const ENTRIES: &str = "SELECT pay_order_no, entry_id, kind, debit, credit, minor, currency
    FROM journal ORDER BY pay_order_no";

/// An event's id begins with its order's number, except for the first letter.
const EVENTS: &str = "SELECT 'P' || substr(event_id, 2, 26), event_id, pay_order_no, merchant_id,
    event_type, version, (due_at IS NOT NULL) = (origin IS NOT NULL AND
    (state = 'PENDING' OR state = 'LEASED')) FROM events ORDER BY event_id";

/// With MAX, a bare column takes its value from the row with the maximum.
const RECORDED: &str = "SELECT object, COUNT(*), result, MAX(seq) FROM audit
    GROUP BY object ORDER BY object";

const CHAINS: &str =
    "SELECT chain_id, seq, at, actor, action, object, result, prev, hash FROM audit
    ORDER BY chain_id, seq";

const BLOCKS: &str = "SELECT block, first_at, last_at, dropped, orders, sealed, prev, hash
    FROM exchange_log ORDER BY block";

/// Reads the table, not its unique index, which could not contain a duplicate number.
const NUMBERS: &str = "SELECT merchant_id, sequence, event_id FROM events NOT INDEXED
    ORDER BY merchant_id, sequence";

const GIVEN: &str = "SELECT merchant_id, last,
    (SELECT coalesce(max(sequence), 0) FROM events WHERE events.merchant_id = sequences.merchant_id)
    FROM sequences UNION ALL
    SELECT merchant_id, 0, max(sequence) FROM events
    WHERE merchant_id NOT IN (SELECT merchant_id FROM sequences) GROUP BY merchant_id";

/// Verifies a store's whole file.
pub(in crate::store) struct FileVerifier {
    connection: Connection,
    file: String,
}

impl FileVerifier {
    pub(in crate::store) fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            connection: file::connect_beside(path)?,
            file: path.display().to_string(),
        })
    }
}

impl StoreVerifier for FileVerifier {
    fn verify(&self, sink: &mut BreachSink<'_>) -> Result<Report, OpenError> {
        // One snapshot, whatever is written meanwhile.
        let snapshot = self.connection.unchecked_transaction()?;
        file::is_current(&snapshot)?;
        let mut report = Report::default();
        let mut breaches = 0_u64;
        let mut sink = |breach: Breach| {
            breaches = breaches.saturating_add(1);
            sink(breach);
        };
        for part in [check_file, chains, blocks, numbers, orders] {
            // The pages of a damaged file may be unreadable; the other parts are still checked.
            if let Err(fault) = part(&snapshot, &mut report, &mut sink) {
                let file = self.file.clone();
                sink(Breach::of("FILE", file, "readable pages", why(&fault)));
            }
        }
        report.breaches = breaches;
        Ok(report)
    }
}

/// `SQLite`'s own check: pages, indexes, types and foreign keys. Not the schema's constraints,
/// which it does not read without write access; the rules cover the same.
fn check_file(
    snapshot: &Connection,
    _: &mut Report,
    sink: &mut BreachSink<'_>,
) -> Result<(), SqliteFault> {
    let mut statement = snapshot.prepare(&format!("PRAGMA integrity_check({FILE_FAULTS_MAX})"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let found: String = row.get(0)?;
        if found != "ok" {
            sink(Breach::of("FILE", "integrity", "ok", found));
        }
    }
    let mut statement = snapshot.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
        let found = format!("a row of {table} without its parent");
        sink(Breach::of(
            "FILE",
            "references",
            format!("an existing row of {parent} for each"),
            found,
        ));
    }
    Ok(())
}

/// L1: verifies each chain from its first record.
fn chains(
    snapshot: &Connection,
    report: &mut Report,
    sink: &mut BreachSink<'_>,
) -> Result<(), SqliteFault> {
    let mut statement = snapshot.prepare(CHAINS)?;
    let mut rows = statement.query([])?;
    let mut chain: Option<Chain> = None;
    while let Some(row) = rows.next()? {
        report.records = report.records.saturating_add(1);
        let columns = Columns { row };
        let name: String = columns.get(0)?;
        if chain.as_ref().is_none_or(|chain| chain.name() != name) {
            report.heads.extend(chain.take().as_ref().map(head));
        }
        let chain = chain.get_or_insert_with(|| Chain::new(&name));
        match record(&columns) {
            Ok(record) => chain.follow(&record, sink),
            Err(fault) => sink(unreadable(&name, &fault)),
        }
    }
    report.heads.extend(chain.as_ref().map(head));
    Ok(())
}

fn head(chain: &Chain) -> (String, u64, [u8; 32]) {
    let link = chain.head();
    (chain.name().to_owned(), link.seq, link.hash)
}

fn record(columns: &Columns<'_>) -> Result<AuditRecord, SqliteFault> {
    Ok(AuditRecord {
        seq: columns.number(1)?,
        at: Timestamp::from_ms(columns.get(2)?),
        audit_entry: AuditEntry {
            actor: columns.get(3)?,
            action: columns.get::<String>(4)?.into(),
            object: columns.get(5)?,
            result: columns.get(6)?,
        },
        prev: columns.get(7)?,
        hash: columns.get(8)?,
    })
}

/// L1: verifies the block chain from the oldest remaining block.
fn blocks(
    snapshot: &Connection,
    report: &mut Report,
    sink: &mut BreachSink<'_>,
) -> Result<(), SqliteFault> {
    let mut statement = snapshot.prepare(BLOCKS)?;
    let mut rows = statement.query([])?;
    let mut blocks = Blocks::default();
    while let Some(row) = rows.next()? {
        report.blocks = report.blocks.saturating_add(1);
        match block(&Columns { row }) {
            Ok(block) => blocks.follow(&block, sink),
            Err(fault) => sink(unreadable("exchange_log", &fault)),
        }
    }
    Ok(())
}

fn block(columns: &Columns<'_>) -> Result<BlockRow, SqliteFault> {
    let (dropped, orders): (String, Vec<u8>) = (columns.get(3)?, columns.get(4)?);
    let head = BlockHead {
        first: Timestamp::from_ms(columns.get(1)?),
        last: Timestamp::from_ms(columns.get(2)?),
        dropped: &dropped,
        orders: &orders,
    };
    let sealed: Vec<u8> = columns.get(5)?;
    Ok(BlockRow {
        number: columns.number(0)?,
        block: block_hash(&head.hash(), &sealed),
        prev: columns.get(6)?,
        hash: columns.get(7)?,
    })
}

/// K1, N1: verifies event numbers, merchant by merchant.
fn numbers(
    snapshot: &Connection,
    _: &mut Report,
    sink: &mut BreachSink<'_>,
) -> Result<(), SqliteFault> {
    let mut statement = snapshot.prepare(NUMBERS)?;
    let mut rows = statement.query([])?;
    let mut numbers = EventNumberCheck::default();
    while let Some(row) = rows.next()? {
        let columns = Columns { row };
        let (merchant, event): (String, String) = (columns.get(0)?, columns.get(2)?);
        numbers.follow(&merchant, columns.number(1)?, &event, sink);
    }
    let mut statement = snapshot.prepare(GIVEN)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let columns = Columns { row };
        let merchant: String = columns.get(0)?;
        EventNumberCheck::counted(&merchant, columns.number(1)?, columns.number(2)?, sink);
    }
    Ok(())
}

/// Verifies every order with all its rows, and reports rows that belong to none.
fn orders(
    snapshot: &Connection,
    report: &mut Report,
    sink: &mut BreachSink<'_>,
) -> Result<(), SqliteFault> {
    let mut statements = [ORDERS, ATTEMPTS, REFUNDS, ENTRIES, EVENTS, RECORDED]
        .map(|sql| snapshot.prepare(sql))
        .into_iter()
        .collect::<Result<Vec<Statement<'_>>, _>>()?
        .into_iter();
    let mut next = || {
        statements
            .next()
            .ok_or_else(|| SqliteFault::Corrupt("no statement".into()))
    };
    let (mut of_orders, mut of_attempts, mut of_refunds) = (next()?, next()?, next()?);
    let (mut of_entries, mut of_events, mut of_records) = (next()?, next()?, next()?);
    let mut attempts = SideTable::new("attempt", of_attempts.query([])?, attempt);
    let mut refunds = SideTable::new("refund", of_refunds.query([])?, refund);
    let mut entries = SideTable::new("entry", of_entries.query([])?, entry);
    let mut events = SideTable::new("event", of_events.query([])?, event);
    let mut recorded = SideTable::new("audit record", of_records.query([])?, recorded);
    let mut rows = of_orders.query([])?;
    while let Some(row) = rows.next()? {
        report.orders = report.orders.saturating_add(1);
        let columns = Columns { row };
        let no: String = columns.get(0)?;
        let row = order(&columns);
        let parts = (
            attempts.until(&no, sink)?,
            refunds.until(&no, sink)?,
            entries.until(&no, sink)?,
            events.until(&no, sink)?,
            recorded.until(&no, sink)?,
        );
        for entry in &parts.2 {
            report.totals.add(entry, sink);
        }
        match row {
            Ok(order) => StoredOrder {
                order,
                attempts: parts.0,
                refunds: parts.1,
                entries: parts.2,
                events: parts.3,
                recorded: parts.4.into_iter().next(),
            }
            .verify(sink),
            Err(fault) => sink(unreadable(&no, &fault)),
        }
    }
    attempts.end(sink)?;
    refunds.end(sink)?;
    entries.end(sink)?;
    events.end(sink)?;
    recorded.end(sink)?;
    report.totals.balance(sink);
    report.attempts = attempts.count;
    report.refunds = refunds.count;
    report.entries = entries.count;
    report.events = events.count;
    Ok(())
}

fn order(columns: &Columns<'_>) -> Result<OrderRow, SqliteFault> {
    Ok(OrderRow {
        no: columns.parse(0, PayOrderNo::parse)?,
        merchant: columns.get(1)?,
        amount: columns.amount(2)?,
        state: columns.parse(4, named(&OrderState::ALL, OrderState::name))?,
        paying_attempt_id: columns.parse_maybe(5, AttemptId::parse)?,
        reserved_minor: columns.get(6)?,
        version: columns.number(7)?,
        is_due: columns.get(8)?,
    })
}

fn attempt(columns: &Columns<'_>) -> Result<AttemptRow, SqliteFault> {
    Ok(AttemptRow {
        id: columns.parse(1, AttemptId::parse)?,
        seq: columns.number(2)?,
        institution: columns.parse(3, InstitutionId::parse)?,
        amount: columns.amount(4)?,
        state: columns.parse(6, named(&AttemptState::ALL, AttemptState::name))?,
        receipt: match columns.get::<Option<i64>>(7)? {
            Some(_) => Some(columns.amount(7)?),
            None => None,
        },
    })
}

fn refund(columns: &Columns<'_>) -> Result<RefundRow, SqliteFault> {
    Ok(RefundRow {
        no: columns.parse(1, RefundOrderNo::parse)?,
        seq: columns.number(2)?,
        attempt: columns.parse(3, AttemptId::parse)?,
        amount: columns.amount(4)?,
        state: columns.parse(6, named(&RefundState::ALL, RefundState::name))?,
        is_excess: columns.get::<Option<String>>(7)?.is_some(),
        is_late: columns.get(8)?,
        over_refunded_minor: columns.get(9)?,
        has_receipt: columns.get(10)?,
    })
}

fn entry(columns: &Columns<'_>) -> Result<EntryRow, SqliteFault> {
    Ok(EntryRow {
        id: columns.get(1)?,
        kind: columns.get(2)?,
        debit: columns.get(3)?,
        credit: columns.get(4)?,
        amount: columns.amount(5)?,
    })
}

fn event(columns: &Columns<'_>) -> Result<EventRow, SqliteFault> {
    Ok(EventRow {
        id: columns.get(1)?,
        order: columns.get(2)?,
        merchant: columns.get(3)?,
        kind: columns.parse(4, named(&EventType::ALL, EventType::name))?,
        version: columns.number(5)?,
        is_rightly_due: columns.get(6)?,
    })
}

fn recorded(columns: &Columns<'_>) -> Result<AuditSummary, SqliteFault> {
    Ok(AuditSummary {
        count: columns.number(1)?,
        last: columns.get(2)?,
    })
}
