//! Results at scale: a backlog of notifications, millions of orders, the bytes of each. In
//! Markdown; what was not measured has no lines.

use std::fmt::Write as _;

use anyhow::Result;

use crate::load::closed::{Round, percentile_ms, shown_ms};
use crate::measure::backlog::{Backlog, OtherPayments};
use crate::measure::callbacks::polling::PollingMeasurement;
use crate::measure::large::LargeDatabase;
use crate::measure::median;
use crate::measure::sizes::{LEDGER, TableSizes};

/// A recovered destination, and the other payments.
pub(crate) fn backlog(out: &mut String, backlog: Option<&Backlog>) -> Result<()> {
    let Some(found) = backlog else {
        return Ok(());
    };
    let [before, filled] = found.resident.map(|bytes| bytes as f64 / 1e6);
    writeln!(
        out,
        "\n### A destination that recovers\n\n\
         {} notifications wait for a destination that does not respond; {} were attempted in vain \
         meanwhile. When it responds again, the first is delivered after {:.1} s (retries back off \
         to half a minute) and the last after {:.1} s; in between **{:.0} per second**, with the \
         gateway's core at {:.0} % and the load's at {:.0} %. The gateway used {before:.1} MB \
         before and {filled:.1} MB with all of them waiting, including the file's cache.\n\n\
         Meanwhile {:.0} payments per second arrive by schedule, a tenth of the maximum, whose \
         merchant is notified at another destination:\n\n\
         | | payments | notified, p50 ms | p99 ms | maximum ms | whole payment, p50 ms | p99 ms |\n\
         |---|---|---|---|---|---|---|",
        found.waiting,
        found.tried,
        found.first_notified_s,
        found.last_notified_s,
        found.notified_per_second,
        found.busy * 100.0,
        found.load_busy * 100.0,
        found.payments_per_second,
    )?;
    others(out, "alone", &found.alone)?;
    others(out, "during the backlog", &found.meanwhile)
}

fn others(out: &mut String, when: &str, others: &OtherPayments) -> Result<()> {
    let notified = |percent| shown_ms(percentile_ms(&others.notified_us, percent));
    let whole = |percent| shown_ms(percentile_ms(&others.latencies_us, percent));
    writeln!(
        out,
        "| {when} | {} | {} | {} | {} | {} | {} |",
        others.notified_us.len(),
        notified(50),
        notified(99),
        notified(100),
        whole(50),
        whole(99),
    )?;
    Ok(())
}

/// Bytes per order.
pub(crate) fn sizes(out: &mut String, sizes: Option<&TableSizes>) -> Result<()> {
    let Some(sizes) = sizes else {
        return Ok(());
    };
    writeln!(
        out,
        "\n### Size of an order\n\n\
         Bytes in the store for each of {} orders that were paid and notified, including indexes; \
         then for a refund of each.\n\n\
         | table | as the gateway left it | packed | a refund adds |\n|---|---|---|---|",
        sizes.orders
    )?;
    let [left, packed] = sizes.of(&LEDGER);
    writeln!(out, "| **ledger** | **{left:.0}** | **{packed:.0}** | |")?;
    let (own, others): (Vec<_>, Vec<_>) =
        (sizes.tables.iter()).partition(|size| LEDGER.contains(&size.table.as_str()));
    for (sizes, what) in [(own, "ledger"), (others, "other")] {
        for size in sizes {
            writeln!(
                out,
                "| {what}: `{}` | {:.0} | {:.0} | {:.0} |",
                size.table, size.left, size.packed, size.refund
            )?;
        }
    }
    Ok(())
}

/// Millions of orders compared with few.
pub(crate) fn large(out: &mut String, large: &LargeDatabase) -> Result<()> {
    writeln!(
        out,
        "\nRandom ones of {} orders in a store of {:.1} GB (ready after {:.0} ms), compared with a \
         store that has little more than the orders queried.\n\n\
         | Journey | callers | orders | per second | p50 ms | p99 ms | CPU µs per request | disk bytes per request |\n\
         |---|---|---|---|---|---|---|---|",
        large.orders,
        large.file_bytes as f64 / 1e9,
        large.ready_ms,
    )?;
    for each in &large.compared {
        let sizes = [("few", &each.empty), ("many", &each.large)];
        for (which, rounds) in sizes {
            let Some(us) = median(rounds, Round::cpu_us) else {
                continue;
            };
            let of = |figure: &dyn Fn(&Round) -> f64| median(rounds, figure).unwrap_or_default();
            let disk = crate::measure::middle(each.from_disk.clone()).unwrap_or_default();
            writeln!(
                out,
                "| {} | {} | {which} | {:.0} | {:.2} | {:.2} | {us:.1} | {} |",
                each.journey,
                each.callers,
                of(&Round::per_second),
                of(&|round| round.percentile_ms(50)),
                of(&|round| round.percentile_ms(99)),
                if which == "many" {
                    format!("{disk:.0}")
                } else {
                    String::new()
                },
            )?;
        }
    }
    Ok(())
}

/// Payers who take a while.
pub(crate) fn polling(out: &mut String, found: Option<&PollingMeasurement>) -> Result<()> {
    let Some(found) = found else {
        return Ok(());
    };
    // The function takes milliseconds here, so it yields seconds.
    let seconds = |values: &[u32], percent| shown_ms(percentile_ms(values, percent));
    let [back, others] = &found.notified_ms;
    writeln!(
        out,
        "\n### Payers who take a while\n\n\
         {} orders, {:.0} per second, each paid 5 to 60 s later, one callback in a hundred lost.\n\n\
         | CPU per order, in total | requests p99 | core utilisation | of it polling | polls | lost callbacks, payer back: notified p50, p100 | others: p50, p100 | unexpected |\n\
         |---|---|---|---|---|---|---|---|\n\
         | {:.0} µs | {} ms | {:.0} % | {:.1} % | {:.0} | {} s, {} s | {} s, {} s | {} |",
        found.orders,
        found.offered_per_second,
        found.cpu_us,
        shown_ms(percentile_ms(&found.latencies_us, 99)),
        found.busy * 100.0,
        found.asking * 100.0,
        found.questions,
        seconds(back, 50),
        seconds(back, 100),
        seconds(others, 50),
        seconds(others, 100),
        found.odd,
    )?;
    if let Some(oddity) = &found.oddity {
        writeln!(
            out,
            "\nThe first unexpected answer: {}",
            oddity.replace('\n', " ")
        )?;
    }
    Ok(())
}
