//! Panics anywhere in this process: each is a bug, counted and logged, whoever caused it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{PanicHookInfo, set_hook};
use std::sync::atomic::{AtomicU64, Ordering};

/// For the whole process: a panic belongs to no gateway.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts every panic from now on and logs where it was.
///
/// Its message is logged only if it is a static string: a formatted one may quote caller input.
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
            tracing::error!(at, text, %trace, "a panic: a bug in this program");
        } else {
            tracing::error!(at, text, "a panic: a bug in this program");
        }
    }));
}

/// The number of panics since then.
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
