//! What processes cost: time on the processor by thread, from the kernel's own books, and the
//! pinning to one core that makes those figures comparable. Estimates nothing.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// Who is measured runs here, alone.
pub(crate) const MEASURED_CORE: &str = "0";
/// Load, institution and backend run here.
pub(crate) const LOAD_CORE: &str = "1";

/// An institution of the load's may owe an answer to who is stopped, and cannot give it meanwhile.
const STOPPED_WITHIN: Duration = Duration::from_secs(3);

/// A process that is measured, ended with this value.
pub(crate) struct MeasuredProcess(Child);

impl MeasuredProcess {
    /// Starts a program on the measured core.
    pub(crate) fn start(program: &Command) -> Result<Self> {
        // It ends with this process, however that ends.
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

    /// For profilers and the books of the kernel.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Resident and proportional memory of the process alone. Unit: bytes.
    pub(crate) fn memory(&self) -> Result<ProcessMemory> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()))?;
        let of = |name: &str| -> Result<u64> {
            let line = rollup.lines().find(|line| line.starts_with(name));
            let kb = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(kb.context("no such line in smaps_rollup")?.parse::<u64>()? * 1_024)
        };
        Ok(ProcessMemory {
            rss: of("Rss:")?,
            pss: of("Pss:")?,
        })
    }

    /// Read from the disk so far, not from what the system had at hand. Unit: bytes.
    pub(crate) fn read_bytes(&self) -> Result<u64> {
        let told = fs::read_to_string(format!("/proc/{}/io", self.pid()))?;
        let line = told
            .lines()
            .find_map(|line| line.strip_prefix("read_bytes: "));
        Ok(line.context("no read_bytes in /proc/PID/io")?.parse()?)
    }

    /// How many files and sockets the process has open.
    pub(crate) fn open_files(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// Ends it and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if self.0.try_wait()?.is_none() {
            // Asked, not killed: a killed nginx leaves its worker behind.
            Command::new("kill").arg(self.pid().to_string()).status()?;
            let asked = Instant::now();
            while self.0.try_wait()?.is_none() {
                if asked.elapsed() > STOPPED_WITHIN {
                    self.0.kill()?;
                    self.0.wait()?;
                }
                thread::park_timeout(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Whether it still runs.
    pub(crate) fn check(&mut self) -> Result<()> {
        let ended = self.0.try_wait()?;
        ensure!(ended.is_none(), "a measured process ended: {ended:?}");
        Ok(())
    }

    /// Time on the processor so far, of the process and of those it started.
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

/// What a process holds. Unit: bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessMemory {
    pub(crate) rss: u64,
    pub(crate) pss: u64,
}

/// Nanoseconds on the processor by thread, with the thread's name.
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

    /// What was spent since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let threads = self.0.iter().map(|(id, (name, ns))| {
            let was = before.0.get(id).map_or(0, |(_, ns)| *ns);
            (id.clone(), (name.clone(), ns.saturating_sub(was)))
        });
        Self(threads.collect())
    }

    /// Adds what was spent at another time.
    pub(crate) fn add_all(&mut self, other: &Self) {
        for (id, (name, ns)) in &other.0 {
            self.0.entry(id.clone()).or_insert((name.clone(), 0)).1 += ns;
        }
    }

    /// Of all threads.
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

/// Nanoseconds on the processor so far, of this process.
pub(crate) fn own_ns() -> u64 {
    let mut spent = CpuTime::default();
    spent.add("self");
    spent.total_ns()
}

/// Raises the number of files that this process, and those it starts, may have open, as far as it
/// may: connections are files.
pub(crate) fn raise_files() -> Result<()> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(4));
    let hard = hard.context("no limit of open files is known")?;
    let raised = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string()])
        .arg(format!("--nofile={hard}:{hard}"))
        .status()
        .context("prlimit (package util-linux) is needed")?;
    ensure!(raised.success(), "cannot raise the number of open files");
    Ok(())
}

/// Keeps this process, and the threads it will start, on the core of the load.
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
