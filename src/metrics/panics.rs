//! Panics anywhere in this process: each is a fault of ours, counted and told, whoever caused it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{PanicHookInfo, set_hook};
use std::sync::atomic::{AtomicU64, Ordering};

/// Of the whole process: a panic belongs to no gateway.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts every panic from now on and says in the log where it was.
///
/// What it says itself is told only where it is a text of the program: one that was put together may
/// quote what somebody sent.
pub fn count_panics() {
    set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let at = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let text = panic.payload().downcast_ref::<&'static str>();
        let text = text.copied().unwrap_or("(not shown)");
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            tracing::error!(at, text, %trace, "a panic: a fault of this program");
        } else {
            tracing::error!(at, text, "a panic: a fault of this program");
        }
    }));
}

/// How many there were since then.
pub(super) fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A panic, in whatever task or thread, is counted.
    #[test]
    fn a_panic_is_counted() {
        let hook = std::panic::take_hook();
        count_panics();
        let before = panics();
        let thread = std::thread::spawn(|| panic!("counted"));
        assert!(thread.join().is_err());
        let after = panics();
        std::panic::set_hook(hook);
        assert!(after > before, "{after}");
    }
}
