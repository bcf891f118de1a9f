//! Power loss: everything that the store writes, truncates and synchronises in a run of whole journeys
//! is recorded beneath it, and replayed into images of a disk that lost its power after each step. Each
//! image must open, must verify, and must hold everything that had been acknowledged.
//! `make power IMAGES=n` looks at as many images.

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
use acknowledged::{AcknowledgedState, TOLD};
use disk::{DiskImage, FalseSync, LossExtent, SimulatedDisk};
use record::DiskRecording;
use run::{FILE, live, opened};

/// Images in every run of the tests; `make power IMAGES=n` looks at others.
const IMAGES: u64 = 400;

/// Where the number of images may be said.
const IMAGES_NAME: &str = "PAYMUX_IMAGES";

/// Images in which a synchronisation that does nothing must show.
const IMAGES_TO_FIND: u64 = 100;

/// Which process of the run this one is, where it is recorded.
const PROCESS_NAME: &str = "PAYMUX_POWER_PROCESS";

/// Processes of the run, one after the other.
const PROCESSES: i64 = 3;

/// What the index of the log holds is made anew by whoever opens it first, and mapped, not written.
const INDEX: &str = "-shm";

/// S1, L1, M2: the run that is recorded ends whole; and where it is being recorded, it is run here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_run_that_is_recorded_ends_whole() {
    if let Some(process) = said(PROCESS_NAME) {
        let process = i64::try_from(process).unwrap();
        let arena = live(&std::env::current_dir().unwrap(), process).await;
        if process + 1 < PROCESSES {
            // Nothing is closed, nothing carried over.
            std::process::exit(0);
        }
        drop(arena);
        return;
    }
    let folder = TempDir::new().unwrap();
    for process in 0..PROCESSES {
        drop(live(folder.path(), process).await);
    }
    let file = folder.path().join(FILE);
    holds(&file).unwrap();
    let mut promised = AcknowledgedState::default();
    let told = fs::read_to_string(folder.path().join(TOLD)).unwrap();
    told.lines().for_each(|line| promised.hear(line));
    assert!(promised.count() > 100, "{promised:?}");
    promised.is_kept(&file).unwrap();
}

/// S1, S3, A1, R4, K1, Q5, Q6, C4, L1, L2, M1, M2, M3, N1, N4, R1: whatever of the last writes a power
/// loss takes, doubles or tears, what was acknowledged is there, and nothing is half there.
#[test]
fn a_power_loss_takes_back_nothing_acknowledged() {
    let images = said(IMAGES_NAME).unwrap_or(IMAGES);
    match lose_power(&RECORDED, None, images) {
        Ok(seen) => eprintln!("{seen}"),
        Err(broken) => panic!("{broken}"),
    }
}

/// S1: the machine finds a synchronisation that does nothing, of the log, of the file and of the
/// folder; so it would find one that is not there.
#[test]
fn a_missing_synchronisation_is_found() {
    for lie in [
        FalseSync::Of("-wal"),
        FalseSync::Of(FILE),
        FalseSync::OfFolder,
    ] {
        match lose_power(&RECORDED, Some(lie), IMAGES_TO_FIND) {
            Ok(seen) => panic!("{lie:?} was not found: {seen}"),
            Err(broken) => eprintln!("{lie:?}: {}", broken.lines().next().unwrap_or_default()),
        }
    }
}

/// Made once, for all who look at it.
static RECORDED: LazyLock<DiskRecording> = LazyLock::new(record);

/// Runs the processes under the recorder, and holds its record to the files as they are then.
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

/// Room kept for a start: nothing of it is ever written or read.
const RESERVE: &str = ".reserve";

/// What nobody lost must be what is there: otherwise something was written past the recorder.
fn is_whole(record: &DiskRecording, folder: &Path) {
    let mut disk = SimulatedDisk::new(record, None);
    for step in &record.steps {
        disk.go_on(step, TOLD);
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
            "{name} was written past the recorder"
        );
    }
}

/// A power loss that somebody must look at.
struct PowerLoss {
    number: u64,
    step: usize,
    loss: LossExtent,
    image: DiskImage,
    promised: AcknowledgedState,
}

/// Looks at so many images, spread evenly over the record; what broke, if something did.
fn lose_power(
    record: &DiskRecording,
    lie: Option<FalseSync>,
    images: u64,
) -> Result<String, String> {
    let cuts: Vec<usize> = (0..record.steps.len())
        .filter(|at| record.steps[*at].matters())
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (shown, seen) = sync_channel(2 * cores);
    let (seen, is_over) = (Mutex::new(seen), AtomicBool::new(false));
    let told = std::thread::scope(|scope| {
        let lookers: Vec<_> = (0..cores)
            .map(|_| scope.spawn(|| look(&seen, &is_over)))
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
                if let Some(told) = disk.go_on(&record.steps[at], TOLD) {
                    let told = std::str::from_utf8(&record.bytes[told]).unwrap();
                    told.lines().for_each(|line| promised.hear(line));
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
            shown.send(next).unwrap();
        }
        drop(shown);
        let looked = lookers.into_iter().map(|one| one.join().unwrap());
        let looked: Vec<_> = looked.collect();
        looked
            .into_iter()
            .find_map(Result::err)
            .map_or(Ok(promised), Err)
    })?;
    Ok(format!(
        "{images} images of {} steps, {} things acknowledged at the end",
        cuts.len(),
        told.count()
    ))
}

/// Looks at images until there are no more, or one is broken; that one is kept.
fn look(lost: &Mutex<Receiver<PowerLoss>>, is_over: &AtomicBool) -> Result<(), String> {
    let next = || lost.lock().unwrap().recv().ok();
    let mut looked = Ok(());
    while let Some(next) = next() {
        if is_over.load(Ordering::SeqCst) {
            continue;
        }
        let folder = TempDir::new().unwrap();
        let write = |name: &str, content: &[u8]| private(&folder.path().join(name), content);
        for (name, content) in next.image.iter().filter(|(name, _)| *name != TOLD) {
            write(name, content);
        }
        let file = folder.path().join(FILE);
        let kept = opened(&file)
            .map_err(|error| error.to_string())
            .map(drop)
            .and_then(|()| holds(&file))
            .and_then(|()| next.promised.is_kept(&file));
        if let Err(why) = kept {
            is_over.store(true, Ordering::SeqCst);
            // As it was found: opening has changed it.
            for (name, content) in &next.image {
                write(name, content);
            }
            let PowerLoss {
                number, step, loss, ..
            } = next;
            let place = folder.keep();
            looked = Err(format!(
                "image {number}, cut after step {step}, lost {loss:?}: {why}\nit lies in {}",
                place.display()
            ));
        }
    }
    looked
}

/// Whether a file holds, by the rules that operators check it with.
fn holds(file: &Path) -> Result<(), String> {
    let (_, breaches) = verified(file).map_err(|error| error.to_string())?;
    if breaches.is_empty() {
        Ok(())
    } else {
        Err(format!("{breaches:?}"))
    }
}
