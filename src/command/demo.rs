//! `paymux demo`: everything on this machine, with fresh keys and a fresh database, over real TLS;
//! real orders through every flow, each claim held against the institutions' own books and the
//! merchants' inboxes. Keeps nothing: its folder is gone when it ends.

pub mod enrolment;
pub mod environment;
pub mod ports;
pub mod printing;
pub mod steps;

use std::process::ExitCode;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::command::demo::environment::{DemoEnvironment, DemoGateway};
use crate::command::demo::ports::Ports;
use crate::command::demo::printing::{StepError, StepPrinter};
use crate::command::demo::steps::DemoRun;
use crate::edge::DrainOutcome;

/// What `paymux demo` takes.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// End after one round, with exit status 0 only if every step held
    #[arg(long)]
    pub once: bool,
    /// Seven ports in a row, the gateway's first; without it 8443, 9443 and 7443 to 7447, or free
    /// ones with --once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1024..=65_000))]
    pub port_base: Option<u16>,
}

/// Plays it.
///
/// # Errors
/// A port is taken, or the output cannot be written.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let ports = match args.port_base {
        Some(base) => Ports::from_base(base),
        None if args.once => Ports::free()?,
        None => Ports::FRIENDLY,
    };
    ports.check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut told = StepPrinter::start();
        told.line(
            "paymux demo: a gateway, three institutions and two merchants on this machine, over \
             real TLS.\nEach line: time since the start, time it took, what happened.",
        )?;
        let (stage, open) = match set(&mut told, ports).await {
            Ok(set) => set,
            Err(StepError::StepFailed) => return Ok(ExitCode::FAILURE),
            Err(StepError::Output(fault)) => return Err(fault.into()),
        };
        let interrupted = async {
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
            }
        };
        tokio::select! {
            played = play(&stage, &mut told, args.once) => played?,
            () = interrupted => told.line("\nstopping: what is in flight is finished first")?,
        }
        let drained = open.close().await?;
        // Everything held, and it ended whole: only then a script may go on.
        Ok(if told.failed == 0 && drained == DrainOutcome::Whole {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
}

/// Keys, institutions, merchants, gateway.
async fn set(
    told: &mut StepPrinter,
    ports: Ports,
) -> Result<(DemoEnvironment, DemoGateway), StepError> {
    told.head("ENROLMENT  fresh keys, a fresh database, a real routes.toml")?;
    let doing = async {
        let stage = DemoEnvironment::set(ports, "").await?;
        let (made, certs) = (stage.files_made, stage.certs());
        let said = format!("{made} files in {}", certs.display());
        Ok((stage, said))
    };
    let what = "keys and certificates made, institutions and merchants open";
    let stage = told.step(what, doing).await?;
    let doing = async {
        let open = stage.open().await?;
        let origin = stage.origin();
        Ok((
            open,
            format!("{origin}, metrics on port {}", ports.operations),
        ))
    };
    let what = "the gateway reads routes.toml and opens";
    let open = told.step(what, doing).await?;
    for shop in [&stage.tea, &stage.books] {
        told.line(&format!(
            "{:21}  merchant     {:10} {}: signs Ed25519, shows its certificate, is told at {}",
            "",
            shop.role.id,
            shop.role.name,
            shop.merchant.notice_url()
        ))?;
    }
    for (cast, institution) in stage.institutions() {
        told.line(&format!(
            "{:21}  institution  {:10} {} {}: {}, up to ¥{}, at {}",
            "",
            cast.id,
            cast.name,
            cast.name_en,
            cast.trait_en,
            cast.most,
            institution.origin()
        ))?;
    }
    Ok((stage, open))
}

/// Every act, whatever became of those before it.
async fn play(stage: &DemoEnvironment, told: &mut StepPrinter, once: bool) -> anyhow::Result<()> {
    let mut play = DemoRun {
        stage,
        printer: told,
        placed: 0,
    };
    let acts = [
        play.aggregated().await,
        play.webview().await,
        play.native().await,
        play.lost_answer().await,
        play.duplicate_callback().await,
        play.closed().await,
        play.repeats().await,
        play.refunded().await,
        play.lost_refund().await,
        play.payment_after_close().await,
        play.payers().await,
        play.explained().await,
        play.reconcile_day().await,
        play.summary().await,
    ];
    for act in acts {
        match act {
            Ok(()) | Err(StepError::StepFailed) => (),
            Err(StepError::Output(fault)) => return Err(fault.into()),
        }
    }
    let elapsed = told.elapsed().as_millis();
    let decision = match told.failed {
        0 => format!("\nall {} steps held, in {elapsed} ms", told.passed),
        failed => format!(
            "\n{failed} of {} steps did not hold",
            told.passed.saturating_add(failed)
        ),
    };
    told.line(&decision)?;
    if !once {
        wait_for_interrupt(stage, told).await?;
        // Until somebody interrupts it.
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Links that open in a browser.
async fn wait_for_interrupt(stage: &DemoEnvironment, told: &StepPrinter) -> anyhow::Result<()> {
    let mut order = stage
        .tea
        .order("TEA-YOURS", "WEBVIEW", "42.00", "13800001234");
    if let Some(fields) = order.as_object_mut() {
        fields.insert("expireMinutes".to_owned(), json!(1_440));
    }
    let placed = stage.tea.place(&order).await?;
    let (origin, operations) = (stage.origin(), stage.ports.operations);
    let lines = [
        ("pay an order yourself", placed.text("payUrl").to_owned()),
        ("our public keys", format!("{origin}/.well-known/jwks.json")),
        ("metrics", format!("http://127.0.0.1:{operations}/metrics")),
        (
            "an institution's book",
            format!("{}/control/books", stage.blue.origin()),
        ),
        ("the configuration", stage.config.display().to_string()),
    ];
    told.head("OPEN  it stays up; Ctrl-C ends it and removes its folder")?;
    for (what, link) in lines {
        told.line(&format!("  {what:22} {link}"))?;
    }
    told.line(&format!(
        "\nThe certificates come from an authority made a moment ago, so a browser warns: go on \
         anyway, or trust\n{} for as long as this runs.",
        stage.certs().join("ca.pem").display()
    ))?;
    Ok(())
}
