//! Reads a statement file off the serving threads: a disk that stalls delays only the requester.

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::domain::statement::{StatementLine, UnusableStatement};
use crate::flow::reconcile_statement::StatementSource;

/// A source that is read on a blocking thread.
pub(super) struct BlockingSource<S>(Option<S>);

impl<S> BlockingSource<S> {
    pub(super) fn new(source: S) -> Self {
        Self(Some(source))
    }
}

#[async_trait]
impl<S: StatementSource + Send + 'static> StatementSource for BlockingSource<S> {
    async fn next(&mut self) -> Result<Option<Vec<StatementLine>>, UnusableStatement> {
        let ended = || UnusableStatement::new("file_unreadable", "its reader ended".to_owned());
        let mut source = self.0.take().ok_or_else(ended)?;
        let runtime = Handle::current();
        let read = spawn_blocking(move || {
            let next = runtime.block_on(source.next());
            (source, next)
        });
        let (source, next) = read.await.map_err(|_| ended())?;
        self.0 = Some(source);
        next
    }
}
