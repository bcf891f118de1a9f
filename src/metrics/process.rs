//! Metrics of this process from the operating system and the runtime, read at each scrape.
//!
//! Names that begin with `process_` are Prometheus' standard ones, so that common dashboards fit;
//! only they have no `paymux_` prefix.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{Counter, Gauge, IntCounter, IntGauge, Registry};

use super::MetricRegistration;
use super::panics::panics;
use crate::log;

/// The unit in which Linux reports processor time, on every architecture.
const TICK_MS: u64 = 10;

/// Metrics of the process and its runtime. On a system without `/proc` the former stay 0.
pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    cpu_ticks: AtomicU64,
    resident_bytes: IntGauge,
    virtual_bytes: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    start_seconds: Gauge,
    panics: IntCounter,
    runtime_workers: IntGauge,
    runtime_tasks: IntGauge,
    runtime_queue_tasks: IntGauge,
    runtime_busy_seconds: Counter,
    runtime_busy_ns: AtomicU64,
    log_lines_dropped: IntCounter,
}

/// The fields of `/proc/self/stat` that are used; times in ticks.
struct ProcStat {
    cpu: u64,
    threads: u64,
    started: u64,
    virtual_bytes: u64,
}

impl ProcStat {
    /// The program's name, in parentheses, may contain anything; numbers follow it.
    fn read(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            cpu: number(11)?.saturating_add(number(12)?),
            threads: number(17)?,
            started: number(19)?,
            virtual_bytes: number(20)?,
        })
    }
}

/// The first number in the line that starts with `start`.
fn number_behind(text: &str, start: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(start))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The duration of this many ticks.
fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(TICK_MS))
}

fn set(gauge: &IntGauge, value: Option<u64>) {
    if let Some(value) = value.and_then(|value| i64::try_from(value).ok()) {
        gauge.set(value);
    }
}

impl ProcessMetrics {
    /// `system` is the registry without a prefix.
    pub(super) fn new(
        page: &MetricRegistration<'_>,
        system: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let system = MetricRegistration(system);
        Ok(Self {
            cpu_seconds: system.counter(
                "process_cpu_seconds_total",
                "Processor time, user and system.",
            )?,
            cpu_ticks: AtomicU64::new(0),
            resident_bytes: system.gauge("process_resident_memory_bytes", "Resident memory.")?,
            virtual_bytes: system.gauge("process_virtual_memory_bytes", "Virtual memory.")?,
            open_fds: system.gauge("process_open_fds", "Open file descriptors.")?,
            max_fds: system.gauge("process_max_fds", "Limit of open file descriptors.")?,
            threads: system.gauge("process_threads", "Threads of the operating system.")?,
            start_seconds: system.moment(
                "process_start_time_seconds",
                "When the process started. Unix seconds.",
            )?,
            panics: page.count(
                "panics_total",
                "Panics: bugs of the program that ended a task.",
            )?,
            runtime_workers: page.gauge("runtime_workers", "Worker threads of the runtime.")?,
            runtime_tasks: page.gauge("runtime_tasks", "Tasks that have not ended.")?,
            runtime_queue_tasks: page.gauge(
                "runtime_queue_tasks",
                "Ready tasks that no thread runs yet.",
            )?,
            runtime_busy_seconds: page.counter(
                "runtime_busy_seconds_total",
                "Time the worker threads spent running tasks, in total.",
            )?,
            runtime_busy_ns: AtomicU64::new(0),
            log_lines_dropped: page.count(
                "log_lines_dropped_total",
                "Log lines dropped because they could not be written or the queue was full.",
            )?,
        })
    }

    /// Updates every metric.
    pub(super) fn look(&self) {
        self.look_at_system();
        let dropped = log::dropped().saturating_sub(self.log_lines_dropped.get());
        self.log_lines_dropped.inc_by(dropped);
        self.look_at_runtime();
        let panics = panics().saturating_sub(self.panics.get());
        self.panics.inc_by(panics);
    }

    fn look_at_system(&self) {
        let read = |name: &str| fs::read_to_string(name).unwrap_or_default();
        if let Some(stat) = ProcStat::read(&read("/proc/self/stat")) {
            let before = self.cpu_ticks.swap(stat.cpu, Ordering::Relaxed);
            let since = ticks(stat.cpu.saturating_sub(before));
            self.cpu_seconds.inc_by(since.as_secs_f64());
            set(&self.threads, Some(stat.threads));
            set(&self.virtual_bytes, Some(stat.virtual_bytes));
            if let Some(booted) = number_behind(&read("/proc/stat"), "btime ") {
                let started = Duration::from_secs(booted).saturating_add(ticks(stat.started));
                self.start_seconds.set(started.as_secs_f64());
            }
        }
        let resident = number_behind(&read("/proc/self/status"), "VmRSS:");
        set(
            &self.resident_bytes,
            resident.map(|kib| kib.saturating_mul(1024)),
        );
        let limits = read("/proc/self/limits");
        set(&self.max_fds, number_behind(&limits, "Max open files"));
        let open = fs::read_dir("/proc/self/fd").ok();
        // The directory itself is open while it is counted.
        let open = open.and_then(|open| u64::try_from(open.count().saturating_sub(1)).ok());
        set(&self.open_fds, open);
    }

    fn look_at_runtime(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let runtime = runtime.metrics();
        let workers = runtime.num_workers();
        let count = |number: usize| u64::try_from(number).ok();
        set(&self.runtime_workers, count(workers));
        set(&self.runtime_tasks, count(runtime.num_alive_tasks()));
        set(
            &self.runtime_queue_tasks,
            count(runtime.global_queue_depth()),
        );
        let busy: Duration = (0..workers)
            .map(|worker| runtime.worker_total_busy_duration(worker))
            .sum();
        let busy_ns = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        let before = self.runtime_busy_ns.swap(busy_ns, Ordering::Relaxed);
        let since = Duration::from_nanos(busy_ns.saturating_sub(before));
        self.runtime_busy_seconds.inc_by(since.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program's name that looks like fields shifts none.
    #[test]
    fn a_strange_name_shifts_no_field() {
        let line = "7 (a) b 9) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 31 18 4000 8192 21";
        let stat = ProcStat::read(line).unwrap();
        assert_eq!((stat.cpu, stat.threads), (300, 31));
        assert_eq!((stat.started, stat.virtual_bytes), (4_000, 8_192));
        assert_eq!(ticks(stat.cpu), Duration::from_secs(3));
        assert!(ProcStat::read("7 (a) S 1").is_none());
        let limits = "Max open files            1024                 4096    files\n";
        assert_eq!(number_behind(limits, "Max open files"), Some(1_024));
    }
}
