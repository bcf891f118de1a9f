//! Payers who take a while, by schedule: each order is placed, selected and paid some time later;
//! one callback in a hundred is lost. Measures the cost of an order with all its polling, the
//! latency of requests meanwhile, and how soon the merchant learns of payments with lost callbacks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::load::BenchCaller;
use crate::load::closed::{percentile_ms, shown_ms};
use crate::load::metronome::{self, Phase};
use crate::load::work::{ACCEPTED, SUCCESS};
use crate::plan::BenchPlan;
use crate::progress::ProgressLog;
use crate::setup::{BenchSetup, SetupOptions};

/// The rate of orders, independent of earlier ones.
const PER_SECOND: f64 = 500.0;
/// How long they arrive.
const LASTING_S: f64 = 60.0;
/// How long a payer takes: minimum and maximum. Unit: milliseconds.
const PAYS_AFTER_MS: [u64; 2] = [5_000, 60_000];
/// One callback in this many is lost.
const LOST_ONE_IN: usize = 100;
/// Of payers whose callback is lost, one in this many returns to the page; of the others too.
const BACK_ONE_IN: usize = 2;
/// A lost callback whose payment is not notified by then counts as never notified.
const NOTIFIED_WITHIN: Duration = Duration::from_secs(150);
/// More connections than are in use at once.
const CONNECTIONS: usize = 128;

/// The results.
pub(crate) struct PollingMeasurement {
    pub(crate) orders: usize,
    pub(crate) offered_per_second: f64,
    /// Processor time of the gateway per order, from the first order until the last notification.
    pub(crate) cpu_us: f64,
    /// From the scheduled time of a request to its response. Unit: microseconds; sorted.
    pub(crate) latencies_us: Vec<u32>,
    /// Utilisation of the gateway's core while orders arrive: in total, and by polling.
    pub(crate) busy: f64,
    pub(crate) asking: f64,
    /// Polls sent meanwhile.
    pub(crate) questions: f64,
    /// From a payment with a lost callback to its notification: payers who returned, others. Unit:
    /// milliseconds; sorted.
    pub(crate) notified_ms: [Vec<u32>; 2],
    pub(crate) odd: usize,
    pub(crate) oddity: Option<String>,
}

/// One payer's order, complete.
struct PolledOrder {
    number: String,
    place: Bytes,
    select: Bytes,
    pays_after: Duration,
    is_lost: bool,
    comes_back: bool,
}

/// The outcome of an order.
struct OrderTimings {
    latencies_us: Vec<u32>,
    /// Of a lost callback.
    reported: Option<(bool, Duration)>,
}

struct PollingCallerPool {
    free: Mutex<VecDeque<BenchCaller>>,
    permits: Semaphore,
    stand: BenchSetup,
}

/// On a gateway of its own, with the default configuration.
pub(crate) async fn measure(plan: &BenchPlan, log: &ProgressLog) -> Result<PollingMeasurement> {
    let stand = BenchSetup::start(&SetupOptions {
        rejections: true,
        ..SetupOptions::default()
    })
    .await?;
    stand.institution.record_payments();
    let phase = Phase {
        per_second: PER_SECOND,
        lasting: plan.lasting(LASTING_S),
    };
    let count = (phase.lasting.as_secs_f64() * PER_SECOND) as usize;
    let orders = orders(plan, &stand, count)?;
    let callers = stand.callers(CONNECTIONS, true).await?;
    let pool = Arc::new(PollingCallerPool {
        permits: Semaphore::new(callers.len()),
        free: Mutex::new(callers.into()),
        stand,
    });
    log.say(&format!(
        "polling: {PER_SECOND} orders/s for {:?}",
        phase.lasting
    ));
    let before = pool.stand.gateway.spent();
    let (begin, mut coming) = metronome::start(&[phase]);
    let (mut going, mut orders) = (JoinSet::new(), orders.into_iter());
    while let (Some(moment), Some(order)) = (coming.recv().await, orders.next()) {
        going.spawn(Arc::clone(&pool).pay(order, moment));
    }
    let wall_s = begin.elapsed().as_secs_f64();
    let while_they_came = pool.stand.gateway.spent().since(&before).total_ns();
    let polled = pool.polled().await?;
    let PollingTotals {
        latencies_us,
        notified_ms,
        odd,
        oddity,
    } = all(going).await?;
    let ended = pool.stand.settled().await?;
    let found = PollingMeasurement {
        orders: count,
        offered_per_second: PER_SECOND,
        cpu_us: ended.since(&before).total_ns() as f64 / 1e3 / count as f64,
        latencies_us,
        busy: while_they_came as f64 / 1e9 / wall_s,
        asking: polled.cpu_s / wall_s,
        questions: polled.questions,
        notified_ms,
        odd,
        oddity,
    };
    log.say(&format!(
        "polling: {:.0} µs an order, p99 {} ms, polling {:.1} % of the core, {odd} odd",
        found.cpu_us,
        shown_ms(percentile_ms(&found.latencies_us, 99)),
        found.asking * 100.0,
    ));
    Ok(found)
}

/// All payments, sorted.
struct PollingTotals {
    latencies_us: Vec<u32>,
    notified_ms: [Vec<u32>; 2],
    odd: usize,
    oddity: Option<String>,
}

/// Waits until the last merchant is notified.
async fn all(mut going: JoinSet<Result<OrderTimings>>) -> Result<PollingTotals> {
    let (mut latencies_us, mut notified_ms) = (Vec::new(), [Vec::new(), Vec::new()]);
    let (mut odd, mut oddity) = (0, None);
    while let Some(went) = going.join_next().await {
        match went? {
            Ok(went) => {
                latencies_us.extend(went.latencies_us);
                if let Some((came_back, notified)) = went.reported {
                    notified_ms[usize::from(!came_back)].push(u32::try_from(notified.as_millis())?);
                }
            }
            Err(why) => {
                odd += 1;
                oddity.get_or_insert_with(|| format!("{why:#}"));
            }
        }
    }
    latencies_us.sort_unstable();
    for times in &mut notified_ms {
        times.sort_unstable();
    }
    Ok(PollingTotals {
        latencies_us,
        notified_ms,
        odd,
        oddity,
    })
}

/// Orders with their random values: evenly distributed, the same in each run.
fn orders(plan: &BenchPlan, stand: &BenchSetup, count: usize) -> Result<Vec<PolledOrder>> {
    let numbers = stand.merchant.numbers(count);
    let (place, select) = (
        stand.merchant.place(&numbers)?,
        stand.merchant.select(&numbers)?,
    );
    let [least, most] = PAYS_AFTER_MS;
    let most = if plan.quick { most / 4 } else { most };
    let made = numbers.into_iter().enumerate().map(|(at, number)| {
        let drawn = (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        PolledOrder {
            place: place[at].clone(),
            select: select[at].clone(),
            number,
            pays_after: Duration::from_millis(least + drawn % (most - least)),
            is_lost: at.is_multiple_of(LOST_ONE_IN),
            comes_back: (at / LOST_ONE_IN).is_multiple_of(BACK_ONE_IN),
        }
    });
    Ok(made.collect())
}

impl PollingCallerPool {
    /// Sends one request by an idle caller; returns its response's body and the latency from
    /// `moment`.
    async fn ask(
        &self,
        request: &[u8],
        (moment, expected): (Instant, &str),
        by_institution: bool,
    ) -> Result<(String, u32)> {
        let _permit = self.permits.acquire().await?;
        let mut caller = lock(&self.free).pop_front().context("no caller is idle")?;
        let connection = if by_institution {
            &mut caller.institution
        } else {
            &mut caller.merchant
        };
        let answered = connection
            .ask(request, |answer| {
                let status = answer.head.get(9..12) == Some(b"200");
                (status, String::from_utf8_lossy(answer.body).into_owned())
            })
            .await;
        lock(&self.free).push_back(caller);
        let took = u32::try_from(moment.elapsed().as_micros())?;
        match answered? {
            (true, body) if body.contains(expected) => Ok((body, took)),
            (_, body) => bail!("expected {expected}, found {body}"),
        }
    }

    async fn pay(self: Arc<Self>, order: PolledOrder, moment: Instant) -> Result<OrderTimings> {
        let (placed, first) = self.ask(&order.place, (moment, ACCEPTED), false).await?;
        let now = Instant::now();
        let (selected, second) = self.ask(&order.select, (now, ACCEPTED), false).await?;
        let attempt = address(&selected, "attempt")?.to_owned();
        let acknowledgement = self.stand.shop.expect(&order.number);
        // Nothing to wait for but the payer, who takes this long.
        let payer = std::future::pending::<()>();
        let _ = tokio::time::timeout(order.pays_after, payer).await;
        let paid = Instant::now();
        self.stand.institution.pay(&attempt);
        let mut latencies_us = vec![first, second];
        if order.comes_back {
            let status = address(&placed, "statusUrl")?;
            let (_, path) = status.split_once("/pay/").context("no page")?;
            let path = path.strip_suffix("/status").context("no status")?;
            let port = self.stand.to_gateway.port;
            let page = format!("GET /pay/{path} HTTP/1.1\r\nhost: localhost:{port}\r\n\r\n");
            let now = Instant::now();
            let (_, third) = self.ask(page.as_bytes(), (now, "<html"), false).await?;
            latencies_us.push(third);
        }
        if !order.is_lost {
            let callback = self.stand.institution.callback(&attempt)?;
            let now = Instant::now();
            let (_, fourth) = self.ask(&callback, (now, SUCCESS), true).await?;
            latencies_us.push(fourth);
        }
        let notified = tokio::time::timeout(NOTIFIED_WITHIN, acknowledgement).await;
        let notified = notified.context("the merchant was never notified")??;
        let notified = notified.saturating_duration_since(paid);
        Ok(OrderTimings {
            latencies_us,
            reported: order.is_lost.then_some((order.comes_back, notified)),
        })
    }

    /// The gateway's metrics of its polling.
    async fn polled(&self) -> Result<PollingCost> {
        let mut page = TcpStream::connect(("127.0.0.1", self.stand.operations)).await?;
        let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        page.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        page.read_to_string(&mut text).await?;
        let sum = |name: &str| -> f64 {
            let lines = text.lines().filter(|line| line.starts_with(name));
            let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            values.sum()
        };
        Ok(PollingCost {
            cpu_s: sum("paymux_polling_cpu_seconds_total{"),
            questions: sum("paymux_polled_orders_total{"),
        })
    }
}

struct PollingCost {
    cpu_s: f64,
    questions: f64,
}

/// A URL in a response.
fn address<'a>(body: &'a str, name: &'static str) -> Result<&'a str> {
    let (_, found) = body.split_once(&format!("\"{name}\":\"")).context(name)?;
    Ok(found.split_once('"').context(name)?.0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
