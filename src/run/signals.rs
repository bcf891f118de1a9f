//! SIGTERM, SIGINT and SIGHUP count from the first instruction to the last: as process 1 too, for
//! which the kernel drops every signal that nobody has asked for.
//!
//! They are noted before anything else is done; whoever looks later finds them noted. From the
//! start of the runtime on they wake as well.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What came so far.
pub struct ProcessSignals {
    stop: Arc<AtomicBool>,
    hangup: Arc<AtomicBool>,
}

/// The same on a runtime, where one can wait for more.
pub struct AsyncSignals {
    /// Ends when the process is told to stop, now or before.
    pub stop: StopSignal,
    /// Each time when the configuration is to be read again.
    pub hangups: HangupSignal,
}

/// SIGTERM or SIGINT.
pub struct StopSignal {
    noted: Arc<AtomicBool>,
    terminate: Signal,
    interrupt: Signal,
}

/// SIGHUP.
pub struct HangupSignal {
    noted: Arc<AtomicBool>,
    signal: Signal,
}

impl ProcessSignals {
    /// From here on no signal ends the process by itself, and none is lost. To be called before
    /// anything else.
    ///
    /// # Errors
    /// If the system gives no signals.
    pub fn noted() -> io::Result<Self> {
        let (stop, hangup) = (Arc::default(), Arc::default());
        for number in [SIGTERM, SIGINT] {
            signal_hook::flag::register(number, Arc::clone(&stop))?;
        }
        signal_hook::flag::register(SIGHUP, Arc::clone(&hangup))?;
        Ok(Self { stop, hangup })
    }

    /// Whether the process has been told to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// On a runtime, which it must be called on.
    ///
    /// # Errors
    /// If the system gives no signals.
    pub fn waiting(self) -> io::Result<AsyncSignals> {
        // Before the flags are looked at: between the two nothing is lost.
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(AsyncSignals {
            stop: StopSignal {
                terminate: signal(terminate)?,
                interrupt: signal(interrupt)?,
                noted: self.stop,
            },
            hangups: HangupSignal {
                signal: signal(SignalKind::hangup())?,
                noted: self.hangup,
            },
        })
    }
}

impl StopSignal {
    /// Returns when the process is told to stop, at once if it was before. Later signals are taken
    /// and change nothing, so that an impatient second one cuts nothing off.
    pub async fn wait(&mut self) {
        if self.noted.load(Ordering::SeqCst) {
            return;
        }
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}

impl HangupSignal {
    /// Returns with the next one, or at once for those that came before; nothing when there can be
    /// no more.
    pub async fn next(&mut self) -> Option<()> {
        if self.noted.swap(false, Ordering::SeqCst) {
            return Some(());
        }
        self.signal.recv().await?;
        self.noted.store(false, Ordering::SeqCst);
        Some(())
    }
}
