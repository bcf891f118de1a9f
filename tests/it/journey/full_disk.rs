//! The store's disk is filled by another program.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use paymux::command::demo::enrolment::BLUE;
use paymux::command::demo::environment::{DemoEnvironment, WAIT_MAX};

use super::{order, placed, queried};

/// A disk of a few megabytes in a mount namespace of its own, unmounted on drop.
struct SmallDisk {
    keeper: Child,
    folder: PathBuf,
}

impl SmallDisk {
    fn mounted_at(folder: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        let flags = if is_root() { "-m" } else { "-rm" };
        let mount = format!(
            "mount -t tmpfs -o size=12m,mode=700 tmpfs '{}' && echo mounted && exec cat",
            folder.display()
        );
        let mut keeper = Command::new("unshare")
            .args([flags, "sh", "-c", &mount])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is missing: it comes with util-linux");
        let mut line = String::new();
        let stdout = keeper.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(
            line, "mounted\n",
            "a mount namespace is needed (unshare {flags})"
        );
        let folder = folder.to_owned();
        Self { keeper, folder }
    }

    /// A program that sees the disk.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let target = format!("--target={}", self.keeper.id());
        if is_root() {
            command.args([&target, "--mount"]);
        } else {
            command.args([&target, "--user", "--preserve-credentials", "--mount"]);
        }
        command.args(["--", program]);
        command
    }

    /// The same directory, seen from here.
    fn path(&self, name: &str) -> PathBuf {
        let inside = self.folder.strip_prefix("/").unwrap().join(name);
        Path::new("/proc")
            .join(self.keeper.id().to_string())
            .join("root")
            .join(inside)
    }

    /// Takes all free space.
    fn fill(&self) {
        let mut file = File::options();
        let mut file = file
            .create(true)
            .append(true)
            .open(self.path("fill"))
            .unwrap();
        while file.write_all(&[7; 4_096]).is_ok() {}
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// `paymux serve` on that disk, and what it logs.
struct FullDiskGateway {
    child: Child,
    log: Receiver<String>,
}

impl FullDiskGateway {
    fn start(disk: &SmallDisk, stage: &DemoEnvironment) -> Self {
        let mut child = disk
            .command(env!("CARGO_BIN_EXE_paymux"))
            .arg("serve")
            .arg("--config")
            .arg(&stage.config)
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter is missing: it comes with util-linux");
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let served = Self { child, log };
        served.wait_for_log("listening");
        served
    }

    /// Waits until it logs this.
    fn wait_for_log(&self, words: &str) {
        let mut before = Vec::new();
        while !before
            .last()
            .is_some_and(|line: &String| line.contains(words))
        {
            let next = self.log.recv_timeout(WAIT_MAX);
            before.push(next.unwrap_or_else(|_| panic!("{words}: {before:#?}")));
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for FullDiskGateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// S3, Q8: a full disk stops nothing and loses nothing: new orders are refused with 503, what is
/// stored is served, a start succeeds on the full disk, and with free space all goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_disk_ends_nothing() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let folder = stage.config.parent().unwrap().join("small");
    let disk = SmallDisk::mounted_at(&folder);
    let text = fs::read_to_string(&stage.config).unwrap();
    let text = text.replace("/paymux.sqlite\"", "/small/paymux.sqlite\"\nreserve_mb = 0");
    fs::write(&stage.config, text).unwrap();
    let shop = &stage.tea;

    let served = FullDiskGateway::start(&disk, &stage);
    placed(shop, &order(shop, "T1", "12.30", BLUE.id)).await;
    // New pages are in the write-ahead log, so that a checkpoint has to extend the file.
    let mut taken = vec!["T1".to_owned()];
    for number in (0..40).map(|n| format!("N{n}")) {
        let placing = shop.order(&number, "AGGREGATED", "1.00", "13800001234");
        assert_eq!(shop.place(&placing).await.unwrap().status, 200);
        taken.push(number);
    }
    disk.fill();
    let refused = loop {
        let number = format!("F{}", taken.len());
        let answer = shop
            .place(&shop.order(&number, "AGGREGATED", "1.00", "13800001234"))
            .await;
        let answer = answer.unwrap();
        if answer.status != 200 {
            break answer;
        }
        taken.push(number);
        disk.fill();
    };
    assert_eq!(refused.status, 503, "{}", refused.json);
    assert_eq!(queried(shop, "T1").await.status, 200);
    served.wait_for_log("the write-ahead log cannot be checkpointed");
    served.kill();

    let served = FullDiskGateway::start(&disk, &stage);
    let number = "ON-A-FULL-DISK";
    assert_eq!(queried(shop, "T1").await.status, 200);
    fs::remove_file(disk.path("fill")).unwrap();
    let answer = loop {
        let answer = shop
            .place(&shop.order(number, "AGGREGATED", "1.00", "13800001234"))
            .await;
        let answer = answer.unwrap();
        if answer.status != 503 {
            break answer;
        }
    };
    assert_eq!(answer.status, 200, "{}", answer.json);
    for number in taken {
        assert_eq!(queried(shop, &number).await.status, 200, "{number}");
    }
    drop(served);
}
