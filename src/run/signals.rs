//! SIGTERM, SIGINT and SIGHUP take effect from the first instruction to the last. This matters for
//! process 1, for which the kernel drops every signal without a handler.
//!
//! Handlers set flags before anything else runs, so a signal that arrived early is found later.
//! Once the runtime has started, signals also wake its tasks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals received so far.
pub struct ProcessSignals {
    stop: Arc<AtomicBool>,
    hangup: Arc<AtomicBool>,
}

/// The same on a runtime, where tasks can wait for more.
pub struct AsyncSignals {
    /// Resolves when the process is told to stop, now or earlier.
    pub stop: StopSignal,
    /// Yields each time the configuration must be reloaded.
    pub hangups: HangupSignal,
}

/// SIGTERM or SIGINT.
pub struct StopSignal {
    received: Arc<AtomicBool>,
    terminate: Signal,
    interrupt: Signal,
}

/// SIGHUP.
pub struct HangupSignal {
    received: Arc<AtomicBool>,
    signal: Signal,
}

impl ProcessSignals {
    /// From here on no signal ends the process by itself, and none is lost. Call it before anything
    /// else.
    ///
    /// # Errors
    /// The system does not accept a handler.
    pub fn recorded() -> io::Result<Self> {
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

    /// Converts it for the runtime on which it is called.
    ///
    /// # Errors
    /// The system does not accept a handler.
    pub fn waiting(self) -> io::Result<AsyncSignals> {
        // Register before the flags are read, so no signal is lost in between.
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(AsyncSignals {
            stop: StopSignal {
                terminate: signal(terminate)?,
                interrupt: signal(interrupt)?,
                received: self.stop,
            },
            hangups: HangupSignal {
                signal: signal(SignalKind::hangup())?,
                received: self.hangup,
            },
        })
    }
}

impl StopSignal {
    /// Returns when the process is told to stop, at once if it was told earlier. Later signals have
    /// no effect, so a second one does not cut the drain short.
    pub async fn wait(&mut self) {
        if self.received.load(Ordering::SeqCst) {
            return;
        }
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}

impl HangupSignal {
    /// Returns at the next signal, or at once if one came earlier; `None` if no more can come.
    pub async fn next(&mut self) -> Option<()> {
        if self.received.swap(false, Ordering::SeqCst) {
            return Some(());
        }
        self.signal.recv().await?;
        self.received.store(false, Ordering::SeqCst);
        Some(())
    }
}
