//! One life of a gateway, drawn from a seed: merchants, payers and institutions do what they like,
//! the network and the machine fail, and somebody forges and repeats. After every step the checks
//! look; at the end faults stop and everything must come to rest.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use paymux::api::Api;
use paymux::domain::identifiers::InstitutionId;
use paymux::flow::chase_doubts::{adopt_leftovers, chase_order};
use paymux::flow::notify_merchant::notify_merchant;
use paymux::store::{Store, Work};
use paymux::world::{Clock, Outbound, World};
use serde_json::Value;

use super::actors::{Flaw, Flawed, Gate, Hasty, Task};
use super::asking::{Asked, Outside};
use super::checks::{Broken, Checks, end, hold};
use crate::world::books::{Ability, Books};
use crate::world::chance::{Dice, Draws};
use crate::world::clock::Hands;
use crate::world::enrolment::{MERCHANTS, register};
use crate::world::frail::{Frail, Lack, Trouble};
use crate::world::inbox::{Inbox, Mood};
use crate::world::memory::Memory;
use crate::world::network::{Ending, Network};
use crate::world::town::{PEER, api};

/// Steps of a life before faults stop.
const STEPS: usize = 160;

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
}

/// How something the gateway did came to its end.
enum Done {
    Answered(Asked, Response<Bytes>, &'static str),
    Called(InstitutionId, String, Response<Bytes>),
    Worked,
}

pub(crate) struct Life {
    pub(super) dice: Dice,
    pub(super) clock: Arc<Hands>,
    pub(super) network: Arc<Network>,
    pub(super) memory: Arc<Memory>,
    pub(super) frail: Arc<Frail>,
    pub(super) outside: Outside,
    pub(super) trace: Vec<String>,
    api: Arc<Api>,
    tasks: Vec<Task<Done>>,
    gates: Vec<Arc<Gate>>,
    checks: Checks,
    plant: Option<Plant>,
    abilities: Vec<(&'static str, Ability)>,
    seed: u64,
    lives: u64,
}

/// Lives one life; what broke, if something did.
pub(crate) fn live(seed: u64, plant: Option<Plant>) -> Broken {
    let mut life = Life::new(seed, plant);
    let lived = life.live_on();
    lived.map_err(|broken| {
        let last = life.trace.len().saturating_sub(60);
        format!("seed {seed}: {broken}\n{}", life.trace[last..].join("\n"))
    })
}

impl Life {
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
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
        let memory = Arc::new(Memory::new());
        let (frail, api) = process(plant, &memory, &network, &clock, (seed, &abilities));
        Self {
            dice,
            clock,
            network,
            memory,
            frail,
            outside: Outside::default(),
            trace: Vec::new(),
            api,
            tasks: Vec::new(),
            gates: Vec::new(),
            checks: Checks::default(),
            plant,
            abilities,
            seed,
            lives: 1,
        }
    }

    fn live_on(&mut self) -> Broken {
        for _ in 0..STEPS {
            self.step()?;
        }
        self.rest()
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        let at = self.clock.truth() % 10_000_000;
        self.trace.push(format!("{at:>8} {}", what()));
    }

    /// One thing happens.
    fn step(&mut self) -> Broken {
        match self.dice.below(100) {
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
            98 => self.floor_rises(),
            _ => self.frail.stop(),
        }
        self.go_on()
    }

    /// Lets everything go on that can, looks, and starts again where the process stopped.
    fn go_on(&mut self) -> Broken {
        loop {
            let ready = self.tasks.iter().position(Task::is_ready);
            let Some(at) = ready.filter(|_| !self.frail.is_stopped()) else {
                break;
            };
            if let Some(done) = self.tasks[at].go_on() {
                drop(self.tasks.remove(at));
                self.end_of(done)?;
            }
            self.look()?;
        }
        if self.frail.is_stopped() {
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
                Ok(())
            }
            Done::Worked => Ok(()),
        }
    }

    /// The process is gone with all it was doing; the next one starts on what is durable.
    fn start_again(&mut self) {
        self.lives += 1;
        let lives = self.lives;
        self.note(|| format!("process {lives} starts"));
        self.tasks.clear();
        self.gates.clear();
        self.clock.start();
        self.memory = Arc::new(self.memory.restarted());
        let draws = self.seed ^ (self.lives << 32);
        let process = process(
            self.plant,
            &self.memory,
            &self.network,
            &self.clock,
            (draws, &self.abilities),
        );
        (self.frail, self.api) = process;
        let (api, now) = (Arc::clone(&self.api), self.clock.now());
        self.tasks.push(Task::new(async move {
            let _ = adopt_leftovers(&*api.store, now).await;
            Done::Worked
        }));
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
        let api = Arc::clone(&self.api);
        self.tasks.push(Task::new(async move {
            let answer = api.answer(request, PEER).await;
            Done::Answered(asked, answer.response, answer.result)
        }));
    }

    /// A callback reaches the gateway.
    fn call(&mut self, id: InstitutionId, payment: String, callback: Request<Bytes>) {
        if self.is_busy() {
            return;
        }
        let api = Arc::clone(&self.api);
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
        let api = Arc::clone(&self.api);
        self.tasks.push(Task::new(async move {
            let now = api.world.clock.now();
            let leases = api.store.lease(work, now, count).await.unwrap_or_default();
            let register = api.register.load_full();
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

    fn payer_pays(&mut self) {
        let truth = self.clock.truth();
        let network = Arc::clone(&self.network);
        let mut parties = network.parties();
        let mut payable = Vec::new();
        for (id, books) in &mut parties.institutions {
            payable.extend(
                books
                    .payable(truth)
                    .into_iter()
                    .map(|one| (id.clone(), one)),
            );
        }
        if payable.is_empty() {
            return;
        }
        let (id, payment) = self.dice.pick(&payable).clone();
        self.note(|| format!("the payer pays {payment} at {id}"));
        parties
            .institutions
            .get_mut(&id)
            .unwrap()
            .pay(&payment, truth);
    }

    /// An institution tells what it knows: mostly what it owes, sometimes once more.
    fn institution_tells(&mut self) {
        let again = self.dice.one_in(5);
        let network = Arc::clone(&self.network);
        let parties = network.parties();
        let mut letters = Vec::new();
        for (id, books) in &parties.institutions {
            let about = if again {
                books.payments.keys().cloned().collect()
            } else {
                books.owed()
            };
            letters.extend(about.into_iter().map(|one| (id.clone(), one)));
        }
        if letters.is_empty() {
            return;
        }
        let (id, payment) = self.dice.pick(&letters).clone();
        let books = &parties.institutions[&id];
        let callback = books.callback(&payment, self.clock.truth());
        let is_owed = books.owed().contains(&payment);
        drop(parties);
        self.note(|| format!("{id} tells about {payment}"));
        // Only what was paid needs to be heard of.
        let payment = if is_owed { payment } else { String::new() };
        self.call(id, payment, callback);
    }

    /// A forged success, or a well-proven one about somebody else's attempt.
    fn somebody_lies(&mut self) {
        let network = Arc::clone(&self.network);
        let parties = network.parties();
        let all: Vec<_> = parties
            .institutions
            .iter()
            .flat_map(|(id, books)| books.payments.keys().map(|one| (id.clone(), one.clone())))
            .collect();
        if all.is_empty() {
            return;
        }
        let (id, payment) = self.dice.pick(&all).clone();
        let success = parties.institutions[&id].success(&payment, self.clock.truth());
        let speaker = InstitutionId::parse(INSTITUTIONS[self.dice.below(3)]).unwrap();
        let speaker_books = &parties.institutions[&speaker];
        let callback = if speaker == id {
            speaker_books.forgery(&success)
        } else {
            speaker_books.letter(&success)
        };
        drop(parties);
        self.note(|| format!("somebody lies as {speaker} about {payment}"));
        self.call(speaker, String::new(), callback);
    }

    fn network_ends_one(&mut self) {
        let many = self.network.parties().waiting.len();
        if many == 0 {
            return;
        }
        let at = self.dice.below(many);
        let (arrived, what) = {
            let parties = self.network.parties();
            let one = &parties.waiting[at];
            (one.has_arrived(), describe(&one.request))
        };
        if !arrived && self.dice.one_in(4) {
            self.note(|| format!("{what} arrives, its answer is on the way"));
            return self.network.arrive(at);
        }
        let ending = self.ending(arrived);
        self.note(|| format!("{what} ends {ending:?}"));
        self.network.release(at, ending);
    }

    fn ending(&mut self, arrived: bool) -> Ending {
        let bad: &[Ending] = if arrived {
            &[Ending::LostAfter, Ending::FaultAfter, Ending::Garbled]
        } else {
            &[
                Ending::NotSent,
                Ending::LostBefore,
                Ending::LostAfter,
                Ending::Late,
                Ending::Twice,
                Ending::FaultAfter,
                Ending::FaultBefore,
                Ending::Garbled,
            ]
        };
        if self.dice.one_in(3) {
            *self.dice.pick(bad)
        } else {
            Ending::Answered
        }
    }

    fn something_late_arrives(&mut self) {
        let many = self.network.parties().late.len();
        if many > 0 {
            let at = self.dice.below(many);
            let what = describe(&self.network.parties().late[at].2);
            self.note(|| format!("{what} arrives late"));
            self.network.arrive_late(at);
        }
    }

    fn time_passes(&mut self) -> Broken {
        let ms = match self.dice.below(8) {
            0..=4 => self.dice.between(10, 3_000),
            5 | 6 => self.dice.between(3_000, 20_000),
            _ => self.dice.between(20_000, 90_000),
        };
        let bend = self.dice.between(-ms / 8, ms / 8);
        self.note(|| format!("{ms} ms pass, the clock shows {}", ms + bend));
        self.pass(ms)?;
        self.clock.bend(bend);
        Ok(())
    }

    /// Time passes; nothing on its way outlives its moment.
    fn pass(&mut self, ms: i64) -> Broken {
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

    /// The machine's clock is set while no process runs.
    fn clock_jumps(&mut self) {
        let off = match self.dice.below(4) {
            0 => 0,
            1 => self.dice.between(-600_000, 0),
            2 => self.dice.between(0, 60_000),
            _ => self.dice.between(0, 7_200_000),
        };
        self.note(|| format!("the clock is set {off} ms off"));
        self.frail.stop();
        self.clock.set_off(off);
    }

    fn manners_change(&mut self) {
        let network = Arc::clone(&self.network);
        let mut parties = network.parties();
        if self.dice.one_in(3) {
            let moods = [Mood::Hears, Mood::Hears, Mood::Mutters, Mood::Stumbles];
            for inbox in parties.merchants.values_mut() {
                inbox.mood = *self.dice.pick(&moods);
            }
            return;
        }
        let id = InstitutionId::parse(INSTITUTIONS[self.dice.below(3)]).unwrap();
        let manners = &mut parties.institutions.get_mut(&id).unwrap().manners;
        let which = self.dice.below(5);
        let on = self.dice.one_in(2);
        match which {
            0 => manners.refuses = on,
            1 => manners.takes_after_end = on,
            2 => manners.keeps_open = on,
            3 => manners.takes_less = on && self.dice.one_in(4),
            _ => manners.mumbles = on,
        }
        let shown = format!("{manners:?}");
        self.note(|| format!("{id} is {shown}"));
    }

    fn trouble_is_planned(&mut self) {
        let at = u64::try_from(self.dice.between(1, 5)).unwrap();
        let trouble = *self.dice.pick(&[
            Trouble::Unavailable,
            Trouble::LostUnwritten,
            Trouble::LostWritten,
            Trouble::StopBefore,
            Trouble::StopBefore,
            Trouble::StopAfter,
            Trouble::StopAfter,
        ]);
        self.note(|| format!("{trouble:?} at write {at} from now"));
        self.frail.plan(at, trouble);
    }

    /// Q6: as the worker that forgets nonces does it.
    fn floor_rises(&mut self) {
        let floor =
            paymux::domain::identifiers::Timestamp::from_ms(self.clock.now().ms() - 480_000);
        let api = Arc::clone(&self.api);
        self.tasks.push(Task::new(async move {
            let _ = api.store.raise_floor(floor).await;
            Done::Worked
        }));
    }

    /// Faults stop; everything must come to rest.
    fn rest(&mut self) -> Broken {
        self.note(|| "faults stop".to_owned());
        self.frail.stop();
        self.clock.set_off(0);
        self.go_on()?;
        self.frail.plan(u64::MAX, Trouble::Unavailable);
        {
            let mut parties = self.network.parties();
            for books in parties.institutions.values_mut() {
                books.manners = crate::world::books::Manners::default();
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
            let due = self.next_due();
            let truth = self.clock.truth();
            self.note(|| format!("next due {:?}", due.map(|due| due - truth)));
            let wait = due.map_or(60_000, |due| due - self.clock.truth());
            self.pass(wait.clamp(0, 3_600_000) + 1)?;
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
        for (id, books) in &self.network.parties().institutions {
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
        both.into_iter().flatten().map(|due| due.ms()).min()
    }
}

fn ability(dice: &mut Dice) -> Ability {
    let can_close = !dice.one_in(4);
    Ability {
        can_close,
        remembers_close: can_close && dice.one_in(2),
        repeatable_create: dice.one_in(2),
    }
}

fn describe(request: &Request<Bytes>) -> String {
    let asked: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    match (asked["call"].as_str(), asked["id"].as_str()) {
        (Some(call), Some(id)) => format!("{call} {id}"),
        _ => format!("notice {}", asked["eventId"]),
    }
}

/// A process on what is durable.
fn process(
    plant: Option<Plant>,
    memory: &Arc<Memory>,
    network: &Arc<Network>,
    clock: &Arc<Hands>,
    (draws, abilities): (u64, &[(&'static str, Ability)]),
) -> (Arc<Frail>, Arc<Api>) {
    let frail = match plant {
        Some(Plant::Store(lack)) => Frail::lacking(memory, lack),
        Some(Plant::Adapter(_) | Plant::HastyNetwork) | None => {
            Frail::new(Arc::<Memory>::clone(memory))
        }
    };
    let frail = Arc::new(frail);
    let outbound: Arc<dyn Outbound> = if plant == Some(Plant::HastyNetwork) {
        Arc::new(Hasty(Arc::clone(network)))
    } else {
        Arc::<Network>::clone(network)
    };
    let mut register = register(abilities);
    if let Some(Plant::Adapter(flaw)) = plant {
        for (id, adapter) in &mut register.adapters {
            let facts = adapter.facts().clone();
            *adapter = Arc::new(Flawed::new(id.clone(), facts, flaw));
        }
    }
    let world = World {
        clock: Arc::<Hands>::clone(clock),
        entropy: Arc::new(Draws::new(draws)),
        outbound,
    };
    let api = api(Arc::<Frail>::clone(&frail), world, register);
    (frail, Arc::new(api))
}
