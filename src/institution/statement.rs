//! Statements over a call: one family of calls, whose outcome is a page.

use bytes::Bytes;
use http::Response;

use crate::domain::attempt::Stamp;
use crate::domain::identifiers::CalendarDay;
use crate::domain::statement::{
    AccountReceiver, StatementLine, StatementTotals, UnusableStatement,
};
use crate::institution::step::{CallState, Step};

/// Requests an institution's statement of a day page by page, so that no reply exceeds the size
/// limit.
pub trait Statements: Send + Sync {
    /// The first step towards a page.
    fn begin_page(
        &self,
        query: &StatementQuery,
        stamp: &Stamp,
    ) -> Step<Result<StatementPage, UnusableStatement>>;

    /// The next step after a reply. A reply that is not authenticated, not the requested page, or
    /// not a page ends as [`UnusableStatement`].
    fn next_page(
        &self,
        query: &StatementQuery,
        state: &CallState,
        reply: &Response<Bytes>,
        stamp: &Stamp,
    ) -> Step<Result<StatementPage, UnusableStatement>>;
}

/// A request for one page of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementQuery {
    /// The account and receiver of the statement.
    pub of: AccountReceiver,
    /// The day.
    pub date: CalendarDay,
    /// The page begins with the line after this one; 0 for the first page.
    pub after: u64,
    /// Maximum number of lines.
    pub limit: u32,
}

/// A page of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementPage {
    /// Its lines.
    pub lines: Vec<StatementLine>,
    /// Whether another one follows.
    pub more: bool,
    /// The totals that the institution states for the whole statement; equal on every page.
    pub totals: StatementTotals,
}
