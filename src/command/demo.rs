//! `paymux demo`: runs a gateway, institutions and merchants on this machine over real TLS, with
//! new keys and a new database. Runs real orders through every payment flow, and checks each step
//! against the institutions' ledgers and the merchants' inboxes. Its temporary folder is deleted
//! at the end.

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

/// Arguments of `paymux demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Exit after one run, with status 0 only if every step passed
    #[arg(long)]
    pub once: bool,
    /// The first of seven consecutive ports, the gateway's; the default is 8443, 9443 and 7443 to
    /// 7447, or free ports with --once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1024..=65_000))]
    pub port_base: Option<u16>,
}

/// Runs the demonstration.
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
        let mut printer = StepPrinter::start();
        printer.line(
            "paymux demo: a gateway, three simulated institutions and two merchants on this \
             machine, over real TLS.\nEach line shows the time since the start, how long the step \
             took, and the result.",
        )?;
        let (stage, open) = match start(&mut printer, ports).await {
            Ok(started) => started,
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
            finished = run_steps(&stage, &mut printer, args.once) => finished?,
            () = interrupted => printer.line("\nstopping after the requests in progress")?,
        }
        let drained = open.close().await?;
        // Exit status 0 only if every step passed and the gateway drained completely.
        Ok(if printer.failed == 0 && drained == DrainOutcome::Whole {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
}

/// Creates keys, and starts institutions, merchants and the gateway.
async fn start(
    printer: &mut StepPrinter,
    ports: Ports,
) -> Result<(DemoEnvironment, DemoGateway), StepError> {
    printer.head("SETUP  new keys, a new database and a complete routes.toml")?;
    let action = async {
        let stage = DemoEnvironment::set(ports, "").await?;
        let (made, certs) = (stage.files_made, stage.certs());
        let detail = format!("{made} files in {}", certs.display());
        Ok((stage, detail))
    };
    let what = "keys and certificates created, institutions and merchants started";
    let stage = printer.step(what, action).await?;
    let action = async {
        let open = stage.open().await?;
        let origin = stage.origin();
        Ok((
            open,
            format!("{origin}, metrics on port {}", ports.operations),
        ))
    };
    let what = "gateway started with routes.toml";
    let open = printer.step(what, action).await?;
    for shop in [&stage.tea, &stage.books] {
        printer.line(&format!(
            "{:21}  merchant     {:10} {}: Ed25519 signatures, client certificate, notified at {}",
            "",
            shop.role.id,
            shop.role.name,
            shop.merchant.notice_url()
        ))?;
    }
    for (profile, institution) in stage.institutions() {
        printer.line(&format!(
            "{:21}  institution  {:10} {} {}: {}, up to ¥{}, at {}",
            "",
            profile.id,
            profile.name,
            profile.name_en,
            profile.trait_en,
            profile.most,
            institution.origin()
        ))?;
    }
    Ok((stage, open))
}

/// Runs every scenario, also after one has failed.
async fn run_steps(
    stage: &DemoEnvironment,
    printer: &mut StepPrinter,
    once: bool,
) -> anyhow::Result<()> {
    let mut run = DemoRun {
        stage,
        printer,
        placed: 0,
    };
    let scenarios = [
        run.aggregated().await,
        run.webview().await,
        run.native().await,
        run.lost_answer().await,
        run.duplicate_callback().await,
        run.closed().await,
        run.repeats().await,
        run.refunded().await,
        run.lost_refund().await,
        run.payment_after_close().await,
        run.payers().await,
        run.explained().await,
        run.reconcile_day().await,
        run.summary().await,
    ];
    for scenario in scenarios {
        match scenario {
            Ok(()) | Err(StepError::StepFailed) => (),
            Err(StepError::Output(fault)) => return Err(fault.into()),
        }
    }
    let elapsed = printer.elapsed().as_millis();
    let result = match printer.failed {
        0 => format!("\nall {} steps passed, in {elapsed} ms", printer.passed),
        failed => format!(
            "\n{failed} of {} steps failed",
            printer.passed.saturating_add(failed)
        ),
    };
    printer.line(&result)?;
    if !once {
        print_links(stage, printer).await?;
        // Runs until it is interrupted.
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Places one more order, and prints links to open in a browser.
async fn print_links(stage: &DemoEnvironment, printer: &StepPrinter) -> anyhow::Result<()> {
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
        (
            "gateway's public keys",
            format!("{origin}/.well-known/jwks.json"),
        ),
        ("metrics", format!("http://127.0.0.1:{operations}/metrics")),
        (
            "an institution's ledger",
            format!("{}/control/books", stage.blue.origin()),
        ),
        ("the configuration", stage.config.display().to_string()),
    ];
    printer.head("TRY IT  the demo keeps running; Ctrl-C stops it and deletes its folder")?;
    for (what, link) in lines {
        printer.line(&format!("  {what:23} {link}"))?;
    }
    printer.line(&format!(
        "\nThe certificates are signed by an authority created just now, so a browser warns: continue \
         anyway, or trust\n{} while this runs.",
        stage.certs().join("ca.pem").display()
    ))?;
    Ok(())
}
