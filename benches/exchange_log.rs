//! What the exchange log costs: processor time for each entry (copied, masked, compressed, sealed, hashed,
//! written by `SQLite`) and bytes on disk for each payment. Goals: 5 us, 1.5 KB (`docs/performance.md`).
//!
//! `cargo bench --bench exchange_log`, or with another number of payments: `… -- 5000`. A payment has five
//! entries: placed, created at the institution, selected, called back, notified. Fifty are in flight at
//! once, so a block holds entries of many.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark reads the clock, computes rates, and prints results"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response};
use paymux::domain::identifiers::{
    AttemptId, InstitutionId, MerchantId, MerchantOrderNo, OrderKey, PayOrderNo, Timestamp, Uptime,
};
use paymux::domain::institutions::MessageFormat;
use paymux::flow::exchange_log::block::OpenBlock;
use paymux::seal::Seal;
use paymux::store::exchange_log::ExchangeLog;
use paymux::store::open_for_all;
use paymux::world::exchange_log::{ExchangeEntry, ReplyCopy, RequestCopy};
use rustix::time::{ClockId, clock_gettime};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PAYMENTS: u32 = 40_000;
const AT_ONCE: u32 = 50;
const BEGAN_MS: i64 = 1_796_000_000_000;

fn main() -> Result<()> {
    // `cargo test` builds and starts benches as well; only `cargo bench` says so.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("this program measures only under cargo bench");
        return Ok(());
    }
    let wanted = std::env::args().find_map(|argument| argument.parse().ok());
    let payments = wanted.unwrap_or(PAYMENTS).next_multiple_of(AT_ONCE);
    let folder = tempfile::TempDir::new()?;
    let path = folder.path().join("db");
    let log = open(&path)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut random = Random(88_172_645_463_325_252);
    let mut open = OpenBlock::default();
    let (mut copying, mut masking, mut writing) = (0.0, 0.0, 0.0);
    let (mut entries, mut plain) = (0_u32, 0_usize);
    for _ in 0..payments / AT_ONCE {
        let exchanges = interleaved(&mut random)?;
        let began = processor_us();
        let taken: Vec<ExchangeEntry> = exchanges.iter().map(BenchExchange::entry).collect();
        let copied = processor_us();
        entries += taken.len() as u32;
        let mut full = Vec::new();
        for entry in taken {
            let block = open.append(&entry, Uptime::from_ms(0));
            full.extend(block.ok().context("an entry is too long")?);
        }
        let masked = processor_us();
        for block in &full {
            plain += block.lines.len();
            runtime.block_on(log.append(block))?;
        }
        copying += copied - began;
        masking += masked - copied;
        writing += processor_us() - masked;
    }
    let began = processor_us();
    if let Some(block) = open.close() {
        plain += block.lines.len();
        runtime.block_on(log.append(&block))?;
    }
    drop(log);
    writing += processor_us() - began;
    let each = |us: f64| us / f64::from(entries);
    println!(
        "{entries} entries of {} bytes: {:.2} us each (copied {:.2}, masked {:.2}, written {:.2}); {} bytes a payment",
        plain / entries as usize,
        each(copying + masking + writing),
        each(copying),
        each(masking),
        each(writing),
        std::fs::metadata(&path)?.len() / u64::from(payments),
    );
    Ok(())
}

fn open(path: &Path) -> Result<Arc<dyn ExchangeLog>> {
    let seal = Seal::new("1", [("1".to_owned(), [1; 32])].into(), [2; 32])?;
    let fatal = Box::new(|why: &str| println!("the store failed: {why}"));
    let on_commit = Box::new(|_, _| ());
    let every = Duration::from_millis(2);
    let opened = open_for_all(path, Arc::new(seal), fatal, on_commit, every)?;
    Ok(opened.exchange_log)
}

/// Processor time of all threads. Unit: microseconds.
fn processor_us() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 * 1e6 + spent.tv_nsec as f64 / 1e3
}

/// A request and its reply, and what an entry says of them.
struct BenchExchange {
    about: OrderKey,
    at: Timestamp,
    with: String,
    what: &'static str,
    result: &'static str,
    request: Request<Bytes>,
    reply: Response<Bytes>,
}

impl BenchExchange {
    fn entry(&self) -> ExchangeEntry {
        ExchangeEntry {
            about: self.about.clone(),
            at: self.at,
            took: Duration::from_millis(7),
            with: self.with.clone(),
            what: self.what.to_owned(),
            result: self.result.to_owned(),
            is_unproven: false,
            is_paying: self.what == "callback",
            format: MessageFormat::INTERFACE,
            request: RequestCopy::of(&self.request, self.request.uri().to_string()),
            reply: Some(ReplyCopy::of(&self.reply)),
        }
    }
}

/// Payments in flight at the same time, step by step.
fn interleaved(random: &mut Random) -> Result<Vec<BenchExchange>> {
    let payments: Result<Vec<_>> = (0..AT_ONCE).map(|_| Payment::new(random)).collect();
    let payments = payments?;
    let mut exchanges = Vec::new();
    for step in [
        Payment::placed,
        Payment::created,
        Payment::selected,
        Payment::called_back,
        Payment::notified,
    ] {
        exchanges.extend(payments.iter().map(|payment| step(payment, random)));
    }
    exchanges.into_iter().collect()
}

struct Payment {
    at: Timestamp,
    merchant: MerchantId,
    number: MerchantOrderNo,
    no: PayOrderNo,
    attempt: AttemptId,
    institution: InstitutionId,
    bank_no: String,
    amount: String,
    mobile: String,
}

impl Payment {
    fn new(random: &mut Random) -> Result<Self> {
        let at = Timestamp::from_ms(BEGAN_MS + i64::from(random.below(86_400_000)));
        let bank = random.below(3) as usize;
        let bank = ["bluebank", "greenbank", "harbour"]
            .get(bank)
            .context("bank")?;
        Ok(Self {
            at,
            merchant: MerchantId::parse(&format!("M1000{:02}", random.below(50)))?,
            number: MerchantOrderNo::parse(&format!("T2026{:09}", random.below(1_000_000_000)))?,
            no: PayOrderNo::mint(at, random.bytes()),
            attempt: AttemptId::mint(at, random.bytes()),
            institution: InstitutionId::parse(bank)?,
            bank_no: random.text(20),
            amount: format!("{}.{:02}", random.below(1_000), random.below(100)),
            mobile: format!("138{:08}", random.below(100_000_000)),
        })
    }

    fn exchange(
        &self,
        (what, result): (&'static str, &'static str),
        about: OrderKey,
        (address, body): (&str, String),
        answer: String,
        random: &mut Random,
    ) -> Result<BenchExchange> {
        let seconds = self.at.ms() / 1_000;
        let request_input = format!(
            "sig1=(\"@method\" \"@target-uri\" \"content-digest\" \"content-type\");created={seconds};\
             expires={};nonce=\"{}\";keyid=\"{}-1\"",
            seconds + 300,
            random.text(22),
            self.merchant
        );
        let reply_input = format!(
            "sig1=(\"@status\" \"content-digest\" \"content-type\" \"@method\";req \"@target-uri\";req \
             \"content-digest\";req \"signature\";req;key=\"sig1\");created={seconds};keyid=\"platform-1\""
        );
        let with = match &about {
            OrderKey::Attempt(institution, _) => format!("institution {institution}"),
            OrderKey::PayOrderNo(..)
            | OrderKey::MerchantOrderNo(..)
            | OrderKey::Refund(..)
            | OrderKey::RefundOrderNo(..)
            | OrderKey::MerchantRefundNo(..)
            | OrderKey::Page(_) => format!("merchant {}", self.merchant),
        };
        let (json, input) = ("application/json", "signature-input");
        let request = Request::post(address)
            .header("content-type", json)
            .header(input, request_input);
        let reply = Response::builder()
            .header("content-type", json)
            .header(input, reply_input);
        Ok(BenchExchange {
            about,
            at: self.at,
            with,
            what,
            result,
            request: request.body(body.into())?,
            reply: reply.body(answer.into())?,
        })
    }

    fn terms(&self, number: &str) -> String {
        let Self {
            merchant,
            amount,
            mobile,
            ..
        } = self;
        format!(
            r#"{{"transactionType":"PASSWORD_PAY","businessType":"AGGREGATED","bankReturnUrl":"https://shop.example/paid","merchantId":"{merchant}","merchantOrderNo":"{number}","orderDate":"20261130","orderAmount":"{amount}","currency":"CNY","mobileNo":"{mobile}","merchantName":"Tea house","goodsNo":"1","goodsName":"tea","goodsDescription":"white tea"}}"#
        )
    }

    fn order(&self) -> String {
        let Self {
            merchant,
            number,
            no,
            amount,
            ..
        } = self;
        format!(
            r#""payOrderNo":"{no}","merchantId":"{merchant}","merchantOrderNo":"{number}","orderAmount":"{amount}","currency":"CNY","result":"ACCEPTED","orderStatus":"OPEN","createDate":"20261130","expireTime":"2026-11-30T14:20:00+08:00","merchantName":"Tea house""#
        )
    }

    fn theirs(&self) -> OrderKey {
        OrderKey::MerchantOrderNo(self.merchant.clone(), self.number.clone())
    }

    fn ours(&self) -> OrderKey {
        OrderKey::Attempt(self.institution.clone(), self.attempt.clone())
    }

    fn placed(&self, random: &mut Random) -> Result<BenchExchange> {
        let banks = ["bluebank", "greenbank", "harbour", "island", "lotus"].map(|bank| {
            format!(
                r#"{{"institutionId":"{bank}","name":"{bank}行","nameEn":"{bank} bank","modes":["WEBVIEW","SDK"],"available":true,"passwordFree":false,"default":false}}"#
            )
        });
        let answer = format!(
            r#"{{{},"institutions":[{}]}}"#,
            self.order(),
            banks.join(",")
        );
        let request = (
            "https://pay.example/v1/orders",
            self.terms(self.number.as_str()),
        );
        self.exchange(("A3.1", "ACCEPTED"), self.theirs(), request, answer, random)
    }

    fn created(&self, random: &mut Random) -> Result<BenchExchange> {
        let Self {
            merchant,
            attempt,
            bank_no,
            amount,
            ..
        } = self;
        let answer = format!(
            r#"{{"currency":"CNY","merchantId":"{merchant}","merchantOrderNo":"{attempt}","orderAmount":"{amount}","orderStatus":"OPEN","payOrderNo":"{bank_no}","result":"ACCEPTED","payUrl":"https://bank.example/pay/{}"}}"#,
            random.text(30)
        );
        let request = (
            "https://bank.example/v1/orders",
            self.terms(attempt.as_str()),
        );
        self.exchange(
            ("create", "E3 accepted"),
            self.ours(),
            request,
            answer,
            random,
        )
    }

    fn selected(&self, random: &mut Random) -> Result<BenchExchange> {
        let Self {
            merchant,
            number,
            institution,
            ..
        } = self;
        let body = format!(
            r#"{{"merchantId":"{merchant}","merchantOrderNo":"{number}","orderDate":"20261130","institutionId":"{institution}","mode":"WEBVIEW"}}"#
        );
        let answer = format!(
            r#"{{{},"attemptStatus":"ACCEPTED","institutionId":"{institution}","mode":"WEBVIEW","payUrl":"https://bank.example/pay/{}"}}"#,
            self.order(),
            random.text(30)
        );
        let request = ("https://pay.example/v1/orders/select", body);
        self.exchange(("X-2", "ACCEPTED"), self.theirs(), request, answer, random)
    }

    fn called_back(&self, random: &mut Random) -> Result<BenchExchange> {
        let Self {
            merchant,
            attempt,
            bank_no,
            amount,
            mobile,
            ..
        } = self;
        let body = format!(
            r#"{{"currency":"CNY","eventId":"{bank_no}-paid","eventType":"ORDER_PAID","fee":"0.01","merchantId":"{merchant}","merchantOrderNo":"{attempt}","mobileNo":"{mobile}","orderAmount":"{amount}","orderDate":"20261130","orderStatus":"PAID","payOrderNo":"{bank_no}","paymentDate":"20261130","paymentTime":"142017","merchantName":"Tea house"}}"#
        );
        let request = ("https://pay.example/v1/callbacks/bluebank", body);
        let answer = r#"{"noticeResult":"SUCCESS"}"#.to_owned();
        self.exchange(
            ("callback", "GENUINE: E3 succeeded"),
            self.ours(),
            request,
            answer,
            random,
        )
    }

    fn notified(&self, random: &mut Random) -> Result<BenchExchange> {
        let Self {
            merchant,
            number,
            no,
            amount,
            mobile,
            institution,
            ..
        } = self;
        let body = format!(
            r#"{{"merchantOrderNo":"{number}","orderDate":"20261130","orderAmount":"{amount}","merchantId":"{merchant}","mobileNo":"{mobile}","paymentDate":"20261130","paymentTime":"142017","payOrderNo":"{no}","orderStatus":"PAID","eventId":"{no}P3","eventType":"ORDER_PAID","version":2,"sequence":{},"currency":"CNY","institutionId":"{institution}","merchantName":"Tea house"}}"#,
            random.below(100_000)
        );
        let about = OrderKey::PayOrderNo(self.merchant.clone(), self.no.clone());
        let request = ("https://shop.example/notices", body);
        let answer = r#"{"noticeResult":"SUCCESS"}"#.to_owned();
        let what = ("notify ORDER_PAID, delivery 1", "acknowledged");
        self.exchange(what, about, request, answer, random)
    }
}

/// The same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 20) % u64::from(end)) as u32
    }

    fn bytes(&mut self) -> [u8; 10] {
        std::array::from_fn(|_| self.below(256) as u8)
    }

    fn text(&mut self, length: usize) -> String {
        (0..length)
            .map(|_| char::from_digit(self.below(36), 36).unwrap_or('0'))
            .collect()
    }
}
