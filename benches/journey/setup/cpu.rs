//! The cost of processes: processor time by thread, from the kernel's accounting, and the pinning
//! to one core that makes those figures comparable.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// The measured process runs here, alone.
pub(crate) const MEASURED_CORE: &str = "0";
/// Load, institutions and backend run here.
pub(crate) const LOAD_CORE: &str = "1";

/// How long a stopped process may take to finish; a connection to one of the load's institutions
/// may delay it.
const STOPPED_WITHIN: Duration = Duration::from_secs(3);

/// A measured process; dropping it stops it.
pub(crate) struct MeasuredProcess(Child);

impl MeasuredProcess {
    /// Starts a program on the measured core.
    pub(crate) fn start(program: &Command) -> Result<Self> {
        // It is killed when this process ends, for whatever reason.
        let mut pinned = Command::new("setpriv");
        pinned
            .args(["--pdeathsig", "TERM", "taskset", "-c", MEASURED_CORE])
            .arg(program.get_program());
        pinned.args(program.get_args());
        for (name, value) in program.get_envs() {
            if let Some(value) = value {
                pinned.env(name, value);
            }
        }
        pinned.stdin(Stdio::null());
        let child = pinned
            .spawn()
            .with_context(|| format!("cannot start {program:?} through taskset"))?;
        Ok(Self(child))
    }

    /// For profilers and the kernel's accounting.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Resident and proportional memory of the process. Unit: bytes.
    pub(crate) fn memory(&self) -> Result<ProcessMemory> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()))?;
        let of = |name: &str| -> Result<u64> {
            let line = rollup.lines().find(|line| line.starts_with(name));
            let kb = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(kb.context("smaps_rollup lacks the line")?.parse::<u64>()? * 1_024)
        };
        Ok(ProcessMemory {
            rss: of("Rss:")?,
            pss: of("Pss:")?,
        })
    }

    /// Bytes read from the disk so far, not from the page cache.
    pub(crate) fn read_bytes(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/io", self.pid()))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("read_bytes: "));
        Ok(line.context("no read_bytes in /proc/PID/io")?.parse()?)
    }

    /// The number of open files and sockets of the process.
    pub(crate) fn open_files(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// Stops it and waits until it has ended.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if self.0.try_wait()?.is_none() {
            // SIGTERM, not SIGKILL: a killed nginx leaves its worker behind.
            Command::new("kill").arg(self.pid().to_string()).status()?;
            let stopped_at = Instant::now();
            while self.0.try_wait()?.is_none() {
                if stopped_at.elapsed() > STOPPED_WITHIN {
                    self.0.kill()?;
                    self.0.wait()?;
                }
                thread::park_timeout(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        let ended = self.0.try_wait()?;
        ensure!(ended.is_none(), "a measured process ended: {ended:?}");
        Ok(())
    }

    /// Processor time so far, of the process and its children.
    pub(crate) fn spent(&self) -> CpuTime {
        let mut spent = CpuTime::default();
        let pid = self.0.id().to_string();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        spent.add(&pid);
        for child in children.unwrap_or_default().split_whitespace() {
            spent.add(child);
        }
        spent
    }
}

impl Drop for MeasuredProcess {
    fn drop(&mut self) {
        if self.stop().is_err() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Memory of a process. Unit: bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessMemory {
    pub(crate) rss: u64,
    pub(crate) pss: u64,
}

/// Processor time in nanoseconds by thread, with the thread's name.
#[derive(Default)]
pub(crate) struct CpuTime(BTreeMap<String, (String, u64)>);

impl CpuTime {
    fn add(&mut self, pid: &str) {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            return;
        };
        for thread in threads.flatten() {
            let path = thread.path();
            let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
            let ns = read("schedstat")
                .split_whitespace()
                .next()
                .and_then(|ns| ns.parse().ok())
                .unwrap_or_default();
            let id = thread.file_name().to_string_lossy().into_owned();
            self.0.insert(id, (read("comm").trim().to_owned(), ns));
        }
    }

    /// The time spent since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let threads = self.0.iter().map(|(id, (name, ns))| {
            let was = before.0.get(id).map_or(0, |(_, ns)| *ns);
            (id.clone(), (name.clone(), ns.saturating_sub(was)))
        });
        Self(threads.collect())
    }

    /// Adds another span's time.
    pub(crate) fn add_all(&mut self, other: &Self) {
        for (id, (name, ns)) in &other.0 {
            self.0.entry(id.clone()).or_insert((name.clone(), 0)).1 += ns;
        }
    }

    /// The sum over all threads.
    pub(crate) fn total_ns(&self) -> u64 {
        self.0.values().map(|(_, ns)| ns).sum()
    }

    /// By name, because threads of one name do the same work.
    pub(crate) fn by_name(&self) -> BTreeMap<&str, u64> {
        let mut sums = BTreeMap::new();
        for (name, ns) in self.0.values() {
            *sums.entry(name.as_str()).or_default() += ns;
        }
        sums
    }
}

/// Processor time of this process so far, in nanoseconds.
pub(crate) fn own_ns() -> u64 {
    let mut spent = CpuTime::default();
    spent.add("self");
    spent.total_ns()
}

/// Raises the limit of open files, for this process and its children, to the hard limit:
/// connections are files.
pub(crate) fn raise_files() -> Result<()> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(4));
    let hard = hard.context("the limit of open files is unknown")?;
    let raised = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string()])
        .arg(format!("--nofile={hard}:{hard}"))
        .status()
        .context("prlimit (package util-linux) is needed")?;
    ensure!(raised.success(), "cannot raise the number of open files");
    Ok(())
}

/// Pins this process, and the threads it will start, to the load's core.
pub(crate) fn pin_load() -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    ensure!(
        cores.get() >= 2,
        "two cores are needed: one is measured, the other makes load"
    );
    let pid = std::process::id().to_string();
    let pinned = Command::new("taskset")
        .args(["-a", "-p", "-c", LOAD_CORE, &pid])
        .stdout(Stdio::null())
        .status()
        .context("taskset (package util-linux) is needed")?;
    ensure!(pinned.success(), "cannot pin to core {LOAD_CORE}");
    Ok(())
}
