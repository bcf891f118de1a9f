//! One life of a gateway, drawn from a seed: merchants, payers and institutions do what they like,
//! the network and the machine fail, and somebody forges and repeats. After every step the checks
//! look; at the end faults stop and everything must come to rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use paymux::api::Api;
use paymux::domain::identifiers::{InstitutionId, Timestamp};
use paymux::flow::chase_doubts::{adopt_leftovers, chase_order};
use paymux::flow::notify_merchant::notify_merchant;
use paymux::store::verify::verify;
use paymux::store::{Store, Work};
use paymux::world::exchange_log::NoRecorder;
use paymux::world::sends::{SendLog, Sends};
use paymux::world::{Clock, Outbound, World};
use tempfile::TempDir;

use super::actors::{Flaw, Flawed, Gate, Hasty, Misdated, Misdating, Task, Wall};
use super::asking::{Asked, Outside};
use super::checks::{Broken, Checks, end, hold};
use super::listing::{Listing, Lists};
use crate::world::books::{Ability, Books};
use crate::world::chance::{Dice, Draws};
use crate::world::clock::Hands;
use crate::world::enrolment::{MERCHANTS, register};
use crate::world::frail::{Frail, Lack, Trouble};
use crate::world::inbox::{Inbox, Mood};
use crate::world::memory::Memory;
use crate::world::network::{Ending, Network};
use crate::world::town::{PEER, api, showing};
use crate::world::twin::Twin;

/// The embedded store's.
const FILE: &str = "paymux.db";

/// Steps of a life before faults stop.
const STEPS: usize = 160;

/// Steps between two looks of a merchant into its list of events.
const LIST_EVERY: usize = 16;

/// Rounds in which everything must come to rest once they have.
const REST_ROUNDS_MAX: usize = 400;

/// Things the gateway does at once at most.
const TASKS_MAX: usize = 12;

pub(super) const INSTITUTIONS: [&str; 3] = ["bank", "purse", "other"];

/// A protection that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    Store(Lack),
    Adapter(Flaw),
    /// Silence counts as "not sent" (E1).
    HastyNetwork,
    /// Sends or news are dated wrongly (A5, V5).
    Misdated(Misdating),
    /// What passed is read off the wall clock (T1, T2).
    WallClock,
}

/// How something the gateway did came to its end.
enum Done {
    Answered(Asked, Response<Bytes>, &'static str),
    Called(InstitutionId, String, Response<Bytes>),
    Listed(Listing, Response<Bytes>),
    Worked,
}

/// What a life runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// Memory.
    Memory,
    /// Memory and the embedded store, asked the same.
    Embedded,
    /// Memory, with a protection missing somewhere.
    Planted(Plant),
}

pub(crate) struct Life {
    pub(super) dice: Dice,
    pub(super) clock: Arc<Hands>,
    pub(super) outside: Outside,
    pub(super) lists: Lists,
    pub(super) network: Arc<Network>,
    pub(super) memory: Arc<Memory>,
    trace: Vec<String>,
    tasks: Vec<Task<Done>>,
    /// None while no process runs.
    process: Option<(Arc<Frail>, Arc<Api>)>,
    gates: Vec<Arc<Gate>>,
    checks: Checks,
    ground: Ground,
    /// Where the embedded store has its file, and what it was asked and has not answered yet.
    folder: TempDir,
    asked: Arc<AtomicUsize>,
    abilities: Vec<(&'static str, Ability)>,
    seed: u64,
    lives: u64,
}

/// Lives one life; what broke, if something did.
pub(crate) fn live(seed: u64, ground: Ground) -> Broken {
    let mut life = Life::new(seed, ground);
    let lived = life.live_on().and_then(|()| life.file_holds());
    lived.map_err(|broken| {
        let last = life.trace.len().saturating_sub(60);
        format!("seed {seed}: {broken}\n{}", life.trace[last..].join("\n"))
    })
}

impl Life {
    pub(crate) fn new(seed: u64, ground: Ground) -> Self {
        let mut dice = Dice::new(seed);
        let clock = Arc::new(Hands::new());
        let network = Arc::new(Network::new(Arc::clone(&clock)));
        let abilities: Vec<_> = INSTITUTIONS
            .into_iter()
            .map(|name| (name, ability(&mut dice)))
            .collect();
        {
            let mut parties = network.parties();
            parties.held = true;
            for (name, ability) in &abilities {
                let books = Books::new(name, *ability);
                parties.institutions.insert(books.id.clone(), books);
            }
            for name in MERCHANTS {
                let origin = format!("https://{}.shop.example", name.to_ascii_lowercase());
                parties.merchants.insert(origin, Inbox::default());
            }
        }
        let mut life = Self {
            dice,
            clock,
            outside: Outside::default(),
            lists: Lists::default(),
            network,
            memory: Arc::new(Memory::new()),
            trace: Vec::new(),
            tasks: Vec::new(),
            process: None,
            gates: Vec::new(),
            checks: Checks::default(),
            ground,
            folder: TempDir::new().unwrap(),
            asked: Arc::default(),
            abilities,
            seed,
            lives: 0,
        };
        life.start_again();
        life
    }

    fn api(&self) -> Arc<Api> {
        Arc::clone(&self.process.as_ref().unwrap().1)
    }

    pub(super) fn frail(&self) -> &Frail {
        &self.process.as_ref().unwrap().0
    }

    fn is_stopped(&self) -> bool {
        self.frail().is_stopped()
    }

    /// What the embedded store wrote must hold for operators as well.
    fn file_holds(&self) -> Broken {
        if self.ground != Ground::Embedded {
            return Ok(());
        }
        let mut breaches = Vec::new();
        let file = self.folder.path().join(FILE);
        verify(&file, &mut |breach| breaches.push(breach)).map_err(|error| error.to_string())?;
        hold!(breaches.is_empty(), "the file does not hold: {breaches:?}");
        Ok(())
    }

    fn live_on(&mut self) -> Broken {
        for step in 1..=STEPS {
            self.step()?;
            if step % LIST_EVERY == 0 {
                self.ask_for_events();
                self.go_on()?;
            }
        }
        self.rest()
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        let at = self.clock.truth() % 10_000_000;
        self.trace.push(format!("{at:>8} {}", what()));
    }

    /// One thing happens.
    fn step(&mut self) -> Broken {
        match self.dice.below(122) {
            0..=6 => self.ask_for_order(),
            7..=9 => self.ask_again(),
            10..=19 => self.ask_to_select(),
            20..=23 => self.ask_about(),
            24..=26 => self.ask_to_close(),
            27..=28 => self.replay(),
            29..=35 => self.payer_pays(),
            36..=43 => self.institution_tells(),
            44..=46 => self.somebody_lies(),
            47..=66 => self.network_ends_one(),
            67..=69 => self.something_late_arrives(),
            70..=74 => self.work(Work::Orders),
            75..=79 => self.work(Work::Events),
            80 => self.somebody_goes_on(),
            81..=90 => self.time_passes()?,
            91..=92 => self.clock_jumps(),
            93..=94 => self.manners_change(),
            95..=97 => self.trouble_is_planned(),
            98 => self.nonces_are_forgotten(),
            99 => self.frail().stop(),
            100..=106 => self.ask_to_refund(),
            107 => self.ask_about_refund(),
            108..=111 => self.refund_ends(),
            112..=115 => self.refund_is_told(),
            116..=118 => self.process_stands_still(),
            119 => self.clock_is_wrong(),
            _ => self.payment_is_hidden(),
        }
        self.go_on()
    }

    /// Lets everything go on that can, looks, and starts again where the process stopped.
    fn go_on(&mut self) -> Broken {
        loop {
            let ready = self.tasks.iter().position(Task::is_ready);
            let Some(at) = ready.filter(|_| !self.is_stopped()) else {
                if self.is_stopped() || self.asked.load(Ordering::SeqCst) == 0 {
                    break;
                }
                // The embedded store answers from a thread of its own, and wakes this one.
                std::thread::park();
                continue;
            };
            if let Some(done) = self.tasks[at].go_on() {
                drop(self.tasks.remove(at));
                self.end_of(done)?;
            }
            self.look()?;
        }
        if self.is_stopped() {
            self.start_again();
            return self.go_on();
        }
        Ok(())
    }

    fn look(&mut self) -> Broken {
        let durable = self.memory.durable();
        let parties = self.network.parties();
        self.checks.look(&durable, &parties, self.clock.truth())?;
        self.outside.look(&durable)
    }

    fn end_of(&mut self, done: Done) -> Broken {
        match done {
            Done::Answered(asked, response, result) => {
                self.note(|| format!("  {asked:?} -> {} {result}", response.status()));
                let durable = self.memory.durable();
                self.outside.hear(&asked, &response, &durable)
            }
            Done::Called(id, payment, response) => {
                self.note(|| format!("  {id} is answered {} about {payment}", response.status()));
                let mut parties = self.network.parties();
                let books = parties.institutions.get_mut(&id).unwrap();
                if books.payments.contains_key(&payment) {
                    books.acknowledge(&payment, &response);
                }
                if books.returns.contains_key(&payment) {
                    books.acknowledge_return(&payment, &response);
                }
                Ok(())
            }
            Done::Listed(listing, response) => {
                let durable = self.memory.durable();
                self.lists.hear(&listing, &response, &durable)
            }
            Done::Worked => Ok(()),
        }
    }

    /// A merchant's question about its events reaches the gateway.
    pub(super) fn list(&mut self, listing: Listing, request: Request<Bytes>) {
        let (api, peer) = (self.api(), showing(listing.merchant));
        self.tasks.push(Task::new(async move {
            let answer = api.answer(request, peer).await;
            Done::Listed(listing, answer.response)
        }));
    }

    /// The process is gone with all it was doing; the next one starts on what is durable.
    fn start_again(&mut self) {
        self.lives += 1;
        let lives = self.lives;
        self.note(|| format!("process {lives} starts"));
        self.tasks.clear();
        self.gates.clear();
        self.process = None;
        self.memory = Arc::new(self.memory.restarted());
        self.process = Some(self.process_on_what_is_durable());
        let (api, now) = (self.api(), self.clock.now());
        self.tasks.push(Task::new(async move {
            let _ = api.store.bring_forward(None, now).await;
            let _ = adopt_leftovers(&*api.store, now).await;
            Done::Worked
        }));
    }

    fn process_on_what_is_durable(&self) -> (Arc<Frail>, Arc<Api>) {
        let (memory, network) = (&self.memory, &self.network);
        let frail = match self.ground {
            Ground::Planted(Plant::Store(lack)) => Frail::lacking(memory, lack),
            Ground::Planted(
                Plant::Adapter(_) | Plant::HastyNetwork | Plant::Misdated(_) | Plant::WallClock,
            )
            | Ground::Memory => Frail::new(Arc::<Memory>::clone(memory)),
            Ground::Embedded => {
                let file = self.folder.path().join(FILE);
                let asked = Arc::clone(&self.asked);
                Frail::new(Arc::new(Twin::open(Arc::clone(memory), &file, asked)))
            }
        };
        let outbound: Arc<dyn Outbound> = if self.ground == Ground::Planted(Plant::HastyNetwork) {
            Arc::new(Hasty(Arc::clone(network)))
        } else {
            Arc::<Network>::clone(network)
        };
        let mut register = register(&self.abilities);
        if let Ground::Planted(Plant::Adapter(flaw)) = self.ground {
            for (id, adapter) in &mut register.adapters {
                let facts = adapter.facts().clone();
                *adapter = Arc::new(Flawed::new(id.clone(), facts, flaw));
            }
        }
        let draws = self.seed ^ ((self.lives - 1) << 32);
        let clock: Arc<dyn Clock> = if self.ground == Ground::Planted(Plant::WallClock) {
            Arc::new(Wall(Arc::clone(&self.clock)))
        } else {
            Arc::<Hands>::clone(&self.clock)
        };
        let sends: Arc<dyn Sends> = match self.ground {
            Ground::Planted(Plant::Misdated(how)) => Arc::new(Misdated::start(how, &clock)),
            Ground::Memory | Ground::Embedded | Ground::Planted(_) => {
                Arc::new(SendLog::start(Arc::clone(&clock)))
            }
        };
        let world = World {
            clock,
            entropy: Arc::new(Draws::new(draws)),
            outbound,
            health: Arc::default(),
            sends,
            signals: Arc::default(),
            exchange_log: Arc::new(NoRecorder),
            disk: Arc::default(),
        };
        let frail = Arc::new(frail);
        let api = api(Arc::<Frail>::clone(&frail), world, register);
        (frail, Arc::new(api))
    }

    fn is_busy(&self) -> bool {
        self.tasks.len() >= TASKS_MAX
    }

    /// A merchant's request reaches the gateway.
    pub(super) fn ask(&mut self, asked: Asked) {
        if self.is_busy() {
            return;
        }
        self.note(|| format!("{asked:?}"));
        let request = self.outside.request(&asked);
        let (api, peer) = (self.api(), showing(self.outside.merchant(&asked)));
        self.tasks.push(Task::new(async move {
            let answer = api.answer(request, peer).await;
            Done::Answered(asked, answer.response, answer.result)
        }));
    }

    /// A callback reaches the gateway.
    pub(super) fn call(&mut self, id: InstitutionId, payment: String, callback: Request<Bytes>) {
        if self.is_busy() {
            return;
        }
        let api = self.api();
        self.tasks.push(Task::new(async move {
            let answer = api.answer(callback, PEER).await;
            Done::Called(id, payment, answer.response)
        }));
    }

    fn work(&mut self, work: Work) {
        if self.is_busy() {
            return;
        }
        let count = u32::try_from(self.dice.between(1, 3)).unwrap();
        let gate = Arc::new(Gate::default());
        if self.dice.one_in(5) {
            self.note(|| format!("a worker leases {work:?} and stands still"));
            self.gates.push(Arc::clone(&gate));
        } else {
            gate.open();
        }
        self.worker(work, count, gate);
    }

    /// Whoever stood still goes on with what it knew.
    fn somebody_goes_on(&mut self) {
        let many = self.gates.len();
        if many > 0 {
            let at = self.dice.below(many);
            self.note(|| "a worker goes on".to_owned());
            self.gates.remove(at).open();
        }
    }

    /// A worker leases and does what is due.
    fn worker(&mut self, work: Work, count: u32, gate: Arc<Gate>) {
        let api = self.api();
        self.tasks.push(Task::new(async move {
            let now = api.world.clock.now();
            let leases = api.store.lease(work, now, count).await.unwrap_or_default();
            let register = Arc::clone(&api.register);
            gate.pass().await;
            for lease in &leases {
                let (store, world) = (&*api.store, &api.world);
                let _ = match work {
                    Work::Events => notify_merchant(store, world, &register.platform, lease)
                        .await
                        .map(|_| ()),
                    Work::Orders | Work::Leftovers => {
                        chase_order(store, world, &register, lease).await
                    }
                };
            }
            Done::Worked
        }));
    }

    /// Time passes; nothing on its way outlives its moment.
    pub(super) fn pass(&mut self, ms: i64) -> Broken {
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

    /// What is due by now ends: the gateway stops waiting, and what was late arrives.
    fn network_gives_up(&mut self) {
        let truth = self.clock.truth();
        let overdue = {
            let parties = self.network.parties();
            let at = parties.waiting.iter().position(|one| one.until <= truth);
            at.map(|at| (at, parties.waiting[at].has_arrived()))
        };
        match overdue {
            Some((at, true)) => self.network.release(at, Ending::LostAfter),
            Some((at, false)) => {
                let ends = [Ending::LostBefore, Ending::LostAfter, Ending::Late];
                let ending = *self.dice.pick(&ends);
                self.network.release(at, ending);
            }
            None => self.network.arrive_late(0),
        }
    }

    /// Q6: as the worker that forgets nonces does it.
    fn nonces_are_forgotten(&mut self) {
        let until =
            paymux::domain::identifiers::Timestamp::from_ms(self.clock.now().ms() - 480_000);
        let api = self.api();
        self.tasks.push(Task::new(async move {
            let _ = api.store.forget_nonces(until).await;
            Done::Worked
        }));
    }

    /// Faults stop; everything must come to rest.
    fn rest(&mut self) -> Broken {
        self.note(|| "faults stop".to_owned());
        self.frail().stop();
        self.clock.set_off(0);
        self.go_on()?;
        self.frail().plan(u64::MAX, Trouble::Unavailable);
        {
            let mut parties = self.network.parties();
            for books in parties.institutions.values_mut() {
                books.manners = crate::world::books::Manners::default();
                books.show_all();
            }
            for inbox in parties.merchants.values_mut() {
                inbox.mood = Mood::Hears;
            }
        }
        for _ in 0..REST_ROUNDS_MAX {
            self.settle_down()?;
            if self.is_at_rest() {
                break;
            }
            for work in [Work::Orders, Work::Events] {
                let gate = Arc::new(Gate::default());
                gate.open();
                self.worker(work, 100, gate);
            }
            self.settle_down()?;
            let (due, truth) = (self.next_due(), self.clock.truth());
            self.note(|| format!("next due {:?}", due.map(|due| due - truth)));
            let wait = due.map_or(60_000, |due| due - truth);
            self.pass(wait.clamp(30_000, 3_600_000) + 1)?;
        }
        for _ in MERCHANTS {
            self.ask_for_events();
        }
        self.settle_down()?;
        let durable = self.memory.durable();
        end(&durable, &self.network.parties())?;
        self.outside.end(&durable)
    }

    /// Everything on its way arrives and is answered; every institution tells what it owes.
    fn settle_down(&mut self) -> Broken {
        self.go_on()?;
        loop {
            if !self.network.parties().waiting.is_empty() {
                self.network.release(0, Ending::Answered);
            } else if !self.network.parties().late.is_empty() {
                self.network.arrive_late(0);
            } else {
                break;
            }
            self.go_on()?;
        }
        hold!(
            self.tasks.is_empty(),
            "Z4: {} things wait for ever",
            self.tasks.len()
        );
        let mut letters = Vec::new();
        let truth = self.clock.truth();
        for (id, books) in &mut self.network.parties().institutions {
            for no in books.returnable() {
                books.bring_back(&no, false, truth);
            }
            for no in books.owed_returns() {
                let callback = books.return_callback(&no);
                letters.push((id.clone(), no, callback));
            }
            for payment in books.owed() {
                let callback = books.callback(&payment, self.clock.truth());
                letters.push((id.clone(), payment, callback));
            }
        }
        for (id, payment, callback) in letters {
            self.call(id, payment, callback);
            self.go_on()?;
            while !self.network.parties().waiting.is_empty() {
                self.network.release(0, Ending::Answered);
                self.go_on()?;
            }
        }
        Ok(())
    }

    fn is_at_rest(&self) -> bool {
        end(&self.memory.durable(), &self.network.parties()).is_ok()
    }

    fn next_due(&self) -> Option<i64> {
        let due = |work| crate::world::town::now(self.memory.next_due(work)).unwrap();
        let both = [due(Work::Orders), due(Work::Events)];
        both.into_iter().flatten().map(Timestamp::ms).min()
    }
}

fn ability(dice: &mut Dice) -> Ability {
    let can_close = !dice.one_in(4);
    Ability {
        can_close,
        remembers_close: can_close && dice.one_in(2),
        repeatable_create: dice.one_in(2),
        repeatable_refund: dice.one_in(2),
    }
}
