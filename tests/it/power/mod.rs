//! Power loss: every write, truncation and synchronisation of the store in a run of whole journeys
//! is recorded beneath it, and replayed into images of a disk that lost power after each step. Each
//! image must open, must verify, and must contain everything that was acknowledged. `make power
//! IMAGES=n` checks that many images.

mod acknowledged;
mod acknowledgement_recorder;
mod disk;
mod record;
mod run;

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{LazyLock, Mutex};

use tempfile::TempDir;

use crate::simulation::said;
use crate::store::builders::private;
use crate::store::verify_store::verified;
use crate::world::random::SeededRandom;
use acknowledged::{AcknowledgedState, NOTIFIED};
use disk::{DiskImage, FalseSync, LossExtent, SimulatedDisk};
use record::DiskRecording;
use run::{FILE, opened, run_process};

/// Images in every test run; `make power IMAGES=n` sets another number.
const IMAGES: u64 = 400;

/// The environment variable with the number of images.
const IMAGES_NAME: &str = "PAYMUX_IMAGES";

/// Images within which a synchronisation that does nothing must be detected.
const IMAGES_TO_FIND: u64 = 100;

/// The environment variable with the index of a recorded process.
const PROCESS_NAME: &str = "PAYMUX_POWER_PROCESS";

/// Processes of the run, one after another.
const PROCESSES: i64 = 3;

/// The log's index is rebuilt by the first opener, and mapped, not written.
const INDEX: &str = "-shm";

/// S1, L1, M2: the recorded run ends in a consistent state; under the recorder, this test is the
/// run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_run_that_is_recorded_ends_whole() {
    if let Some(process) = said(PROCESS_NAME) {
        let process = i64::try_from(process).unwrap();
        let arena = run_process(&std::env::current_dir().unwrap(), process).await;
        if process + 1 < PROCESSES {
            // Nothing is closed or checkpointed.
            std::process::exit(0);
        }
        drop(arena);
        return;
    }
    let folder = TempDir::new().unwrap();
    for process in 0..PROCESSES {
        drop(run_process(folder.path(), process).await);
    }
    let file = folder.path().join(FILE);
    verify_file(&file).unwrap();
    let mut promised = AcknowledgedState::default();
    let lines = fs::read_to_string(folder.path().join(NOTIFIED)).unwrap();
    lines.lines().for_each(|line| promised.add(line));
    assert!(promised.count() > 100, "{promised:?}");
    promised.check(&file).unwrap();
}

/// S1, S3, A1, R4, K1, Q5, Q6, C4, L1, L2, M1, M2, M3, N1, N4, R1: whatever a power loss does to
/// the last writes, acknowledged data is there, and nothing is there in part.
#[test]
fn a_power_loss_takes_back_nothing_acknowledged() {
    let images = said(IMAGES_NAME).unwrap_or(IMAGES);
    match lose_power(&RECORDED, None, images) {
        Ok(summary) => eprintln!("{summary}"),
        Err(broken) => panic!("{broken}"),
    }
}

/// S1: the replay detects a synchronisation of the log, the file or the folder that does nothing,
/// and so would detect a missing one.
#[test]
fn a_missing_synchronisation_is_found() {
    for lie in [
        FalseSync::Of("-wal"),
        FalseSync::Of(FILE),
        FalseSync::OfFolder,
    ] {
        match lose_power(&RECORDED, Some(lie), IMAGES_TO_FIND) {
            Ok(summary) => panic!("{lie:?} was not found: {summary}"),
            Err(broken) => eprintln!("{lie:?}: {}", broken.lines().next().unwrap_or_default()),
        }
    }
}

/// Recorded once, for all tests.
static RECORDED: LazyLock<DiskRecording> = LazyLock::new(record);

/// Runs the processes under the recorder, and compares its record with the resulting files.
fn record() -> DiskRecording {
    let place = TempDir::new().unwrap();
    let folder = place.path().canonicalize().unwrap().join("watched");
    fs::create_dir(&folder).unwrap();
    let (recorder, to) = (
        place.path().join("recorder.so"),
        place.path().join("record"),
    );
    let made = Command::new("cc")
        .args(["-O2", "-Wall", "-Werror", "-fPIC", "-shared", "-o"])
        .arg(&recorder)
        .arg(crate::tidy::tree::root().join("tests/it/power/recorder.c"))
        .arg("-ldl")
        .output()
        .expect("cc is missing: `make setup` installs it");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    for process in 0..PROCESSES {
        let ran = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "power::the_run_that_is_recorded_ends_whole",
                "--nocapture",
            ])
            .current_dir(&folder)
            .env("LD_PRELOAD", &recorder)
            .env("POWER_FOLDER", &folder)
            .env("POWER_RECORD", &to)
            .env(PROCESS_NAME, process.to_string())
            .output()
            .unwrap();
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }
    let record = DiskRecording::read(fs::read(to).unwrap(), folder.to_str().unwrap());
    is_whole(&record, &folder);
    record
}

/// Disk space reserved for a start; never written or read.
const RESERVE: &str = ".reserve";

/// Without a loss, the replay must equal the files; otherwise something bypassed the recorder.
fn is_whole(record: &DiskRecording, folder: &Path) {
    let mut disk = SimulatedDisk::new(record, None);
    for step in &record.steps {
        disk.apply_step(step, NOTIFIED);
    }
    let image = disk.image(LossExtent::Nothing, &mut SeededRandom::new(0));
    let found = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> = found.collect();
    assert_eq!(found.len(), image.len(), "{found:?}");
    for path in found {
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_same = image.get(name) == Some(&fs::read(&path).unwrap());
        assert!(
            is_same || name.ends_with(INDEX) || name.ends_with(RESERVE),
            "{name} was written without the recorder"
        );
    }
}

/// An image to check.
struct PowerLoss {
    number: u64,
    step: usize,
    loss: LossExtent,
    image: DiskImage,
    promised: AcknowledgedState,
}

/// Checks this many images, spread evenly over the record; returns the first violation.
fn lose_power(
    record: &DiskRecording,
    lie: Option<FalseSync>,
    images: u64,
) -> Result<String, String> {
    let cuts: Vec<usize> = (0..record.steps.len())
        .filter(|at| record.steps[*at].matters())
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (sender, receiver) = sync_channel(2 * cores);
    let (receiver, is_over) = (Mutex::new(receiver), AtomicBool::new(false));
    let acknowledged = std::thread::scope(|scope| {
        let checkers: Vec<_> = (0..cores)
            .map(|_| scope.spawn(|| check_images(&receiver, &is_over)))
            .collect();
        let mut disk = SimulatedDisk::new(record, lie);
        let (mut promised, mut at) = (AcknowledgedState::default(), 0);
        for number in 0..images {
            if is_over.load(Ordering::SeqCst) {
                break;
            }
            let many = u64::try_from(cuts.len()).unwrap();
            let step = cuts[usize::try_from(number * many / images).unwrap()];
            while at <= step {
                if let Some(range) = disk.apply_step(&record.steps[at], NOTIFIED) {
                    let lines = std::str::from_utf8(&record.bytes[range]).unwrap();
                    lines.lines().for_each(|line| promised.add(line));
                }
                at += 1;
            }
            let mut dice = SeededRandom::new(number);
            let loss = *dice.pick(&LossExtent::ALL);
            let image = disk.image(loss, &mut dice);
            let promised = promised.clone();
            let next = PowerLoss {
                number,
                step,
                loss,
                image,
                promised,
            };
            sender.send(next).unwrap();
        }
        drop(sender);
        let checked = checkers.into_iter().map(|one| one.join().unwrap());
        let checked: Vec<_> = checked.collect();
        checked
            .into_iter()
            .find_map(Result::err)
            .map_or(Ok(promised), Err)
    })?;
    Ok(format!(
        "{images} images of {} steps, {} things acknowledged at the end",
        cuts.len(),
        acknowledged.count()
    ))
}

/// Checks images until there are no more, or one is broken; the broken one is kept.
fn check_images(lost: &Mutex<Receiver<PowerLoss>>, is_over: &AtomicBool) -> Result<(), String> {
    let next = || lost.lock().unwrap().recv().ok();
    let mut checked = Ok(());
    while let Some(next) = next() {
        if is_over.load(Ordering::SeqCst) {
            continue;
        }
        let folder = TempDir::new().unwrap();
        let write = |name: &str, content: &[u8]| private(&folder.path().join(name), content);
        for (name, content) in next.image.iter().filter(|(name, _)| *name != NOTIFIED) {
            write(name, content);
        }
        let file = folder.path().join(FILE);
        let kept = opened(&file)
            .map_err(|error| error.to_string())
            .map(drop)
            .and_then(|()| verify_file(&file))
            .and_then(|()| next.promised.check(&file));
        if let Err(why) = kept {
            is_over.store(true, Ordering::SeqCst);
            // Restored, because opening has changed it.
            for (name, content) in &next.image {
                write(name, content);
            }
            let PowerLoss {
                number, step, loss, ..
            } = next;
            let place = folder.keep();
            checked = Err(format!(
                "image {number}, power loss after step {step}, lost {loss:?}: {why}\nit is in {}",
                place.display()
            ));
        }
    }
    checked
}

/// Checks a file with the store's own verification.
fn verify_file(file: &Path) -> Result<(), String> {
    let (_, breaches) = verified(file).map_err(|error| error.to_string())?;
    if breaches.is_empty() {
        Ok(())
    } else {
        Err(format!("{breaches:?}"))
    }
}
