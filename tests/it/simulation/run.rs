//! One simulation run, drawn from a seed: merchants, payers and institutions act at random, the
//! network and the machine fail, and messages are forged and repeated. The checks run after every
//! step; at the end faults stop and everything must come to rest.

mod rest;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use paymux::api::Api;
use paymux::domain::identifiers::{InstitutionId, Timestamp};
use paymux::flow::notify_merchant::notify_merchant;
use paymux::flow::poll_unresolved::{poll_order, recover_orphaned};
use paymux::store::LeaseKind;
use paymux::world::exchange_log::NoRecorder;
use paymux::world::sends::{SendLog, Sends};
use paymux::world::{Clock, Outbound, World};
use tempfile::TempDir;

use super::actors::{
    AdapterFlaw, FlawedAdapter, MisdatedSends, MisdatingFlaw, SilenceAsUnsentNetwork,
    SimulatedTask, WallUptimeClock, WorkerGate,
};
use super::checks::{InvariantChecks, InvariantResult, end, hold};
use super::listing::{EventListing, EventListings};
use super::requests::{SimulatedMerchants, SimulatedRequest};
use crate::store::builders::lease;
use crate::store::verify_store::verified;
use crate::world::clock::ManualClock;
use crate::world::differential_store::DifferentialStore;
use crate::world::enrolment::{MERCHANTS, snapshot};
use crate::world::fake_institution::{FakeInstitution, FakeInstitutionAbility};
use crate::world::fake_merchant::{FakeMerchant, FakeMerchantBehaviour};
use crate::world::fault_injector::{FaultInjector, InjectedFault, MissingProtection};
use crate::world::memory::MemoryStore;
use crate::world::network::{ScriptedOutcome, TestNetwork};
use crate::world::random::{SeededEntropy, SeededRandom};
use crate::world::test_gateway::{PEER, api, showing};

/// The file of the embedded store.
const FILE: &str = "paymux.db";

/// Steps of a run before faults stop.
const STEPS: usize = 160;

/// Steps between two reads of a merchant's event list.
const LIST_EVERY: usize = 16;

/// Rounds within which everything must come to rest after that.
const REST_ROUNDS_MAX: usize = 400;

/// The most concurrent tasks of the gateway.
const TASKS_MAX: usize = 12;

pub(super) const INSTITUTIONS: [&str; 3] = ["bank", "purse", "other"];

/// A missing protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlantedFlaw {
    Store(MissingProtection),
    Adapter(AdapterFlaw),
    /// Silence counts as "not sent" (E1).
    SilenceAsUnsent,
    /// Sends or evidence are dated wrongly (A5, V5).
    Misdated(MisdatingFlaw),
    /// Elapsed time is read from the wall clock (T1, T2).
    WallUptime,
}

/// The outcome of a task.
enum TaskOutcome {
    Answered(SimulatedRequest, Response<Bytes>, &'static str),
    Called(InstitutionId, String, Response<Bytes>),
    Listed(EventListing, Response<Bytes>),
    Worked,
}

/// The store of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreSetup {
    /// Memory.
    Memory,
    /// Memory and the embedded store, with the same calls.
    Embedded,
    /// Memory, with a planted flaw.
    Planted(PlantedFlaw),
}

pub(crate) struct SimulationRun {
    pub(super) dice: SeededRandom,
    pub(super) clock: Arc<ManualClock>,
    pub(super) outside: SimulatedMerchants,
    pub(super) lists: EventListings,
    pub(super) network: Arc<TestNetwork>,
    pub(super) memory: Arc<MemoryStore>,
    trace: Vec<String>,
    tasks: Vec<SimulatedTask<TaskOutcome>>,
    /// `None` while no process runs.
    process: Option<(Arc<FaultInjector>, Arc<Api>)>,
    gates: Vec<Arc<WorkerGate>>,
    checks: InvariantChecks,
    ground: StoreSetup,
    /// The folder of the embedded store, and the number of calls it has not answered yet.
    folder: TempDir,
    asked: Arc<AtomicUsize>,
    abilities: Vec<(&'static str, FakeInstitutionAbility)>,
    seed: u64,
    runs: u64,
}

/// Executes one run; returns the violation, if any.
pub(crate) fn execute(seed: u64, ground: StoreSetup) -> InvariantResult {
    let mut run = SimulationRun::new(seed, ground);
    let finished = run.run_steps().and_then(|()| run.store_verifies());
    finished.map_err(|broken| {
        let last = run.trace.len().saturating_sub(60);
        format!("seed {seed}: {broken}\n{}", run.trace[last..].join("\n"))
    })
}

impl SimulationRun {
    pub(crate) fn new(seed: u64, ground: StoreSetup) -> Self {
        let mut dice = SeededRandom::new(seed);
        let clock = Arc::new(ManualClock::new());
        let network = Arc::new(TestNetwork::new(Arc::clone(&clock)));
        let abilities: Vec<_> = INSTITUTIONS
            .into_iter()
            .map(|name| (name, ability(&mut dice)))
            .collect();
        {
            let mut parties = network.parties();
            parties.held = true;
            for (name, ability) in &abilities {
                let books = FakeInstitution::new(name, *ability);
                parties.institutions.insert(books.id.clone(), books);
            }
            for name in MERCHANTS {
                let origin = format!("https://{}.shop.example", name.to_ascii_lowercase());
                parties.merchants.insert(origin, FakeMerchant::default());
            }
        }
        let mut run = Self {
            dice,
            clock,
            outside: SimulatedMerchants::default(),
            lists: EventListings::default(),
            network,
            memory: Arc::new(MemoryStore::new()),
            trace: Vec::new(),
            tasks: Vec::new(),
            process: None,
            gates: Vec::new(),
            checks: InvariantChecks::default(),
            ground,
            folder: TempDir::new().unwrap(),
            asked: Arc::default(),
            abilities,
            seed,
            runs: 0,
        };
        run.start_again();
        run
    }

    fn api(&self) -> Arc<Api> {
        Arc::clone(&self.process.as_ref().unwrap().1)
    }

    pub(super) fn fault_injector(&self) -> &FaultInjector {
        &self.process.as_ref().unwrap().0
    }

    fn is_stopped(&self) -> bool {
        self.fault_injector().is_stopped()
    }

    /// The store's own verification of the embedded store's file must pass.
    fn store_verifies(&self) -> InvariantResult {
        if self.ground != StoreSetup::Embedded {
            return Ok(());
        }
        let file = self.folder.path().join(FILE);
        let (_, breaches) = verified(&file).map_err(|error| error.to_string())?;
        hold!(
            breaches.is_empty(),
            "the store's verification fails: {breaches:?}"
        );
        Ok(())
    }

    fn run_steps(&mut self) -> InvariantResult {
        for step in 1..=STEPS {
            self.step()?;
            if step % LIST_EVERY == 0 {
                self.list_events();
                self.go_on()?;
            }
        }
        self.rest()
    }

    pub(super) fn log(&mut self, what: impl FnOnce() -> String) {
        let at = self.clock.truth() % 10_000_000;
        self.trace.push(format!("{at:>8} {}", what()));
    }

    /// One event.
    fn step(&mut self) -> InvariantResult {
        match self.dice.below(122) {
            0..=6 => self.place_order(),
            7..=9 => self.repeat_order(),
            10..=19 => self.select_institution(),
            20..=23 => self.query_order(),
            24..=26 => self.close_order(),
            27..=28 => self.replay(),
            29..=35 => self.payer_pays(),
            36..=43 => self.institution_calls_back(),
            44..=46 => self.forged_message_arrives(),
            47..=66 => self.network_ends_one(),
            67..=69 => self.something_late_arrives(),
            70..=74 => self.work(LeaseKind::Orders),
            75..=79 => self.work(LeaseKind::Events),
            80 => self.somebody_goes_on(),
            81..=90 => self.time_passes()?,
            91..=92 => self.clock_jumps(),
            93..=94 => self.behaviour_changes(),
            95..=97 => self.fault_is_planned(),
            98 => self.nonces_are_forgotten(),
            99 => self.fault_injector().stop(),
            100..=106 => self.request_refund(),
            107 => self.query_refund(),
            108..=111 => self.refund_ends(),
            112..=115 => self.refund_callback_arrives(),
            116..=118 => self.process_stands_still(),
            119 => self.clock_is_wrong(),
            _ => self.payment_is_hidden(),
        }
        self.go_on()
    }

    /// Runs all ready tasks, checks, and restarts the process if it stopped.
    fn go_on(&mut self) -> InvariantResult {
        loop {
            let ready = self.tasks.iter().position(SimulatedTask::is_ready);
            let Some(at) = ready.filter(|_| !self.is_stopped()) else {
                if self.is_stopped() || self.asked.load(Ordering::SeqCst) == 0 {
                    break;
                }
                // The embedded store answers from its own thread, which unparks this one.
                std::thread::park();
                continue;
            };
            if let Some(done) = self.tasks[at].go_on() {
                drop(self.tasks.remove(at));
                self.end_of(done)?;
            }
            self.check()?;
        }
        if self.is_stopped() {
            self.start_again();
            return self.go_on();
        }
        Ok(())
    }

    fn check(&mut self) -> InvariantResult {
        let durable = self.memory.durable();
        let parties = self.network.parties();
        self.checks.check(&durable, &parties, self.clock.truth())?;
        self.outside.check(&durable)
    }

    fn end_of(&mut self, done: TaskOutcome) -> InvariantResult {
        match done {
            TaskOutcome::Answered(asked, response, result) => {
                self.log(|| format!("  {asked:?} -> {} {result}", response.status()));
                let durable = self.memory.durable();
                self.outside.check_answer(&asked, &response, &durable)
            }
            TaskOutcome::Called(id, payment, response) => {
                self.log(|| format!("  {id} is answered {} about {payment}", response.status()));
                let mut parties = self.network.parties();
                let books = parties.institutions.get_mut(&id).unwrap();
                if books.payments.contains_key(&payment) {
                    books.acknowledge(&payment, &response);
                }
                if books.returns.contains_key(&payment) {
                    books.acknowledge_refund(&payment, &response);
                }
                Ok(())
            }
            TaskOutcome::Listed(listing, response) => {
                let durable = self.memory.durable();
                self.lists.check_answer(&listing, &response, &durable)
            }
            TaskOutcome::Worked => Ok(()),
        }
    }

    /// A merchant's request for its events reaches the gateway.
    pub(super) fn list(&mut self, listing: EventListing, request: Request<Bytes>) {
        let (api, peer) = (self.api(), showing(listing.merchant));
        self.tasks.push(SimulatedTask::new(async move {
            let answer = api.answer(request, peer).await;
            TaskOutcome::Listed(listing, answer.response)
        }));
    }

    /// The process is lost with its tasks; the next one starts on the durable state.
    fn start_again(&mut self) {
        self.runs += 1;
        let runs = self.runs;
        self.log(|| format!("process {runs} starts"));
        self.tasks.clear();
        self.gates.clear();
        self.process = None;
        self.memory = Arc::new(self.memory.restarted());
        self.process = Some(self.process_on_what_is_durable());
        let (api, now) = (self.api(), self.clock.now());
        self.tasks.push(SimulatedTask::new(async move {
            let _ = api.store.nodes.bring_forward(None, now).await;
            let _ = recover_orphaned(&api.store, now).await;
            TaskOutcome::Worked
        }));
    }

    fn process_on_what_is_durable(&self) -> (Arc<FaultInjector>, Arc<Api>) {
        let (memory, network) = (&self.memory, &self.network);
        let fault_injector = match self.ground {
            StoreSetup::Planted(PlantedFlaw::Store(lack)) => {
                FaultInjector::unmet_requirements(memory, lack)
            }
            StoreSetup::Planted(
                PlantedFlaw::Adapter(_)
                | PlantedFlaw::SilenceAsUnsent
                | PlantedFlaw::Misdated(_)
                | PlantedFlaw::WallUptime,
            )
            | StoreSetup::Memory => FaultInjector::new(memory.handles()),
            StoreSetup::Embedded => {
                let file = self.folder.path().join(FILE);
                let asked = Arc::clone(&self.asked);
                let both = DifferentialStore::open(Arc::clone(memory), &file, asked);
                FaultInjector::new(Arc::new(both).handles())
            }
        };
        let outbound: Arc<dyn Outbound> =
            if self.ground == StoreSetup::Planted(PlantedFlaw::SilenceAsUnsent) {
                Arc::new(SilenceAsUnsentNetwork(Arc::clone(network)))
            } else {
                Arc::<TestNetwork>::clone(network)
            };
        let mut snapshot = snapshot(&self.abilities);
        if let StoreSetup::Planted(PlantedFlaw::Adapter(flaw)) = self.ground {
            for (id, adapter) in &mut snapshot.adapters {
                let facts = adapter.facts().clone();
                *adapter = Arc::new(FlawedAdapter::new(id.clone(), facts, flaw));
            }
        }
        let draws = self.seed ^ ((self.runs - 1) << 32);
        let clock: Arc<dyn Clock> = if self.ground == StoreSetup::Planted(PlantedFlaw::WallUptime) {
            Arc::new(WallUptimeClock(Arc::clone(&self.clock)))
        } else {
            Arc::<ManualClock>::clone(&self.clock)
        };
        let sends: Arc<dyn Sends> = match self.ground {
            StoreSetup::Planted(PlantedFlaw::Misdated(how)) => {
                Arc::new(MisdatedSends::start(how, &clock))
            }
            StoreSetup::Memory | StoreSetup::Embedded | StoreSetup::Planted(_) => {
                Arc::new(SendLog::start(Arc::clone(&clock)))
            }
        };
        let world = World {
            clock,
            entropy: Arc::new(SeededEntropy::new(draws)),
            outbound,
            health: Arc::default(),
            sends,
            signals: Arc::default(),
            exchange_log: Arc::new(NoRecorder),
            disk: Arc::default(),
            signing: Arc::default(),
        };
        let fault_injector = Arc::new(fault_injector);
        let api = api(fault_injector.handles(), world, snapshot);
        (fault_injector, Arc::new(api))
    }

    fn is_busy(&self) -> bool {
        self.tasks.len() >= TASKS_MAX
    }

    /// A merchant's request reaches the gateway.
    pub(super) fn ask(&mut self, asked: SimulatedRequest) {
        if self.is_busy() {
            return;
        }
        self.log(|| format!("{asked:?}"));
        let request = self.outside.request(&asked);
        let (api, peer) = (self.api(), showing(self.outside.merchant(&asked)));
        self.tasks.push(SimulatedTask::new(async move {
            let answer = api.answer(request, peer).await;
            TaskOutcome::Answered(asked, answer.response, answer.result)
        }));
    }

    /// A callback reaches the gateway.
    pub(super) fn call(&mut self, id: InstitutionId, payment: String, callback: Request<Bytes>) {
        if self.is_busy() {
            return;
        }
        let api = self.api();
        self.tasks.push(SimulatedTask::new(async move {
            let answer = api.answer(callback, PEER).await;
            TaskOutcome::Called(id, payment, answer.response)
        }));
    }

    fn work(&mut self, work: LeaseKind) {
        if self.is_busy() {
            return;
        }
        let count = u32::try_from(self.dice.between(1, 3)).unwrap();
        let admission = Arc::new(WorkerGate::default());
        if self.dice.one_in(5) {
            self.log(|| format!("a worker leases {work:?} and is suspended"));
            self.gates.push(Arc::clone(&admission));
        } else {
            admission.open();
        }
        self.worker(work, count, admission);
    }

    /// A suspended worker continues with what it knew.
    fn somebody_goes_on(&mut self) {
        let many = self.gates.len();
        if many > 0 {
            let at = self.dice.below(many);
            self.log(|| "a worker continues".to_owned());
            self.gates.remove(at).open();
        }
    }

    /// A worker leases and does what is due.
    fn worker(&mut self, work: LeaseKind, count: u32, admission: Arc<WorkerGate>) {
        let api = self.api();
        self.tasks.push(SimulatedTask::new(async move {
            let now = api.world.clock.now();
            let leases = lease(&api.store, work, now, count)
                .await
                .unwrap_or_default();
            admission.pass().await;
            for lease in &leases {
                let _ = match work {
                    LeaseKind::Events => notify_merchant(api.scope(), lease).await.map(|_| ()),
                    LeaseKind::Orders | LeaseKind::OrphanedCalls => {
                        poll_order(api.scope(), lease).await
                    }
                };
            }
            TaskOutcome::Worked
        }));
    }

    /// Time passes; nothing in flight outlives its moment.
    pub(super) fn pass(&mut self, ms: i64) -> InvariantResult {
        let until = self.clock.truth() + ms;
        while let Some(deadline) = self.network.deadline().filter(|one| *one <= until) {
            let wait = deadline - self.clock.truth();
            self.clock.pass(wait.max(0));
            self.network_gives_up();
            self.go_on()?;
        }
        self.clock.pass(until - self.clock.truth());
        Ok(())
    }

    /// What is due ends: the gateway times out, and late messages arrive.
    fn network_gives_up(&mut self) {
        let truth = self.clock.truth();
        let overdue = {
            let parties = self.network.parties();
            let at = parties.waiting.iter().position(|one| one.until <= truth);
            at.map(|at| (at, parties.waiting[at].has_arrived()))
        };
        match overdue {
            Some((at, true)) => self.network.release(at, ScriptedOutcome::LostAfter),
            Some((at, false)) => {
                let ends = [
                    ScriptedOutcome::LostBefore,
                    ScriptedOutcome::LostAfter,
                    ScriptedOutcome::Late,
                ];
                let ending = *self.dice.pick(&ends);
                self.network.release(at, ending);
            }
            None => self.network.arrive_late(0),
        }
    }

    /// Q6: deletes nonces as the worker does.
    fn nonces_are_forgotten(&mut self) {
        let until =
            paymux::domain::identifiers::Timestamp::from_ms(self.clock.now().ms() - 480_000);
        let api = self.api();
        self.tasks.push(SimulatedTask::new(async move {
            let _ = api.store.nonces.forget_nonces(until).await;
            TaskOutcome::Worked
        }));
    }
}

fn ability(dice: &mut SeededRandom) -> FakeInstitutionAbility {
    let can_close = !dice.one_in(4);
    FakeInstitutionAbility {
        can_close,
        remembers_close: can_close && dice.one_in(2),
        repeatable_create: dice.one_in(2),
        repeatable_refund: dice.one_in(2),
    }
}
