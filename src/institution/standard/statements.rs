//! Statements in the `standard` dialect (`docs/statements.md`): a page for one day and one
//! receiver, in a reply signed like any other.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::domain::amount::Currency;
use crate::domain::attempt::Stamp;
use crate::domain::evidence::{Ambiguity, Reason};
use crate::domain::fields::{Fields, Scalar};
use crate::domain::identifiers::{ReceiverId, Timestamp};
use crate::domain::statement::{
    Movement, StatementLine, StatementTotals, UnusableStatement, read_line,
};
use crate::institution::standard::{StandardAdapter, sending};
use crate::institution::{
    CallState, Effect, StatementPage, StatementQuery, Statements, Step, Unmade,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatementRequestFields<'a> {
    merchant_id: &'a str,
    date: &'a str,
    after_line: u64,
    limit: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatementReply<'a> {
    #[serde(borrow)]
    merchant_id: Cow<'a, str>,
    #[serde(borrow)]
    date: Cow<'a, str>,
    first_line: u64,
    #[serde(borrow)]
    lines: Vec<StatementReplyLine<'a>>,
    next_line: Option<u64>,
    total_lines: u64,
    #[serde(borrow)]
    total_payments: BTreeMap<Cow<'a, str>, Scalar<'a>>,
    #[serde(borrow)]
    total_refunds: BTreeMap<Cow<'a, str>, Scalar<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatementReplyLine<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    merchant_order_no: Option<Cow<'a, str>>,
    #[serde(borrow)]
    merchant_refund_no: Option<Cow<'a, str>>,
    #[serde(borrow)]
    institution_no: Cow<'a, str>,
    #[serde(borrow)]
    amount: Scalar<'a>,
    #[serde(borrow)]
    currency: Cow<'a, str>,
    #[serde(borrow)]
    moment: Cow<'a, str>,
}

impl Statements for StandardAdapter {
    fn begin_page(&self, query: &StatementQuery, stamp: &Stamp) -> Step<Read> {
        let asking = StatementRequestFields {
            merchant_id: query.of.receiver.as_str(),
            date: query.date.as_str(),
            after_line: query.after,
            limit: query.limit,
        };
        let Ok(body) = serde_json::to_vec(&asking) else {
            return Step::Unmade(Unmade::Malformed);
        };
        self.post(
            "/v1/statements",
            body,
            &query.of.account,
            "statement",
            stamp,
        )
        .map_or_else(Step::Unmade, |signed| sending(signed, Effect::None))
    }

    fn next_page(
        &self,
        query: &StatementQuery,
        state: &CallState,
        reply: &Response<Bytes>,
        stamp: &Stamp,
    ) -> Step<Read> {
        Step::Done(self.read_page(query, state, reply, stamp.now))
    }
}

/// The result of reading a reply.
type Read = Result<StatementPage, UnusableStatement>;

impl StandardAdapter {
    fn read_page(
        &self,
        query: &StatementQuery,
        state: &CallState,
        reply: &Response<Bytes>,
        now: Timestamp,
    ) -> Read {
        self.prove(&query.of.account, state, reply, now)
            .map_err(|why| {
                if why == Ambiguity::Unproven {
                    let detail = "expected a reply signed by the institution, found another";
                    return UnusableStatement::new("unproven", detail);
                }
                UnusableStatement::new("no_answer", why.word())
            })?;
        if reply.status() != StatusCode::OK {
            return Err(refused(reply));
        }
        let body: StatementReply<'_> = serde_json::from_slice(reply.body()).map_err(|fault| {
            let (line, column) = (fault.line(), fault.column());
            unreadable(&format!(
                "not a page of a statement, at {line}:{column}: {}",
                what(&fault)
            ))
        })?;
        page(query, &body)
    }
}

fn what(fault: &serde_json::Error) -> &'static str {
    use serde_json::error::Category;
    match fault.classify() {
        Category::Io | Category::Eof => "truncated",
        Category::Syntax => "not JSON",
        Category::Data => "a field is missing or of another type",
    }
}

fn unreadable(detail: &str) -> UnusableStatement {
    UnusableStatement::new("page_unreadable", detail)
}

fn refused(reply: &Response<Bytes>) -> UnusableStatement {
    let fields = Fields::parse(reply.body()).ok();
    let code = fields.as_ref().and_then(|fields| fields.text("code"));
    let code = Reason::from_code(code.and_then(Result::ok).unwrap_or("without a code"));
    let (status, code) = (reply.status().as_u16(), code.as_str().to_owned());
    UnusableStatement::new(
        "no_statement",
        format!("expected a statement, found a refusal: {status} {code}"),
    )
}

fn page(query: &StatementQuery, reply: &StatementReply<'_>) -> Read {
    if reply.merchant_id != query.of.receiver.as_str() {
        let detail = format!("expected receiver {}, found another", query.of.receiver);
        return Err(UnusableStatement::new("another_receiver", detail));
    }
    if reply.date != query.date.as_str() {
        let detail = format!("expected {}, found another day", query.date.as_str());
        return Err(UnusableStatement::new("another_day", detail));
    }
    let first = query.after.saturating_add(1);
    let count = u64::try_from(reply.lines.len()).unwrap_or(u64::MAX);
    let after = query.after.saturating_add(count);
    let follows = reply.first_line == first && count <= u64::from(query.limit);
    let goes_on = reply
        .next_line
        .is_none_or(|next| count > 0 && next == after.saturating_add(1));
    if !follows || !goes_on {
        return Err(unreadable(&format!(
            "expected lines from {first} on, without gap"
        )));
    }
    let lines = reply.lines.iter().enumerate().map(|(at, line)| {
        let line = read(&query.of.receiver, line);
        line.map_err(|expected| {
            let at = first.saturating_add(u64::try_from(at).unwrap_or(0));
            UnusableStatement::new("line_unreadable", format!("line {at}: {expected}"))
        })
    });
    Ok(StatementPage {
        lines: lines.collect::<Result<_, _>>()?,
        more: reply.next_line.is_some(),
        totals: totals(reply)?,
    })
}

fn read(
    receiver: &ReceiverId,
    line: &StatementReplyLine<'_>,
) -> Result<StatementLine, &'static str> {
    let number = match (&line.merchant_order_no, &line.merchant_refund_no) {
        (Some(number), None) if line.kind == Movement::Payment.name() => number,
        (None, Some(number)) if line.kind == Movement::Refund.name() => number,
        _ => return Err("merchantOrderNo of a payment, merchantRefundNo of a refund"),
    };
    let parts = [
        &line.kind,
        number,
        &line.institution_no,
        &line.amount.0,
        &line.currency,
        &line.moment,
    ];
    read_line(receiver.clone(), parts.map(AsRef::as_ref))
}

fn totals(reply: &StatementReply<'_>) -> Result<StatementTotals, UnusableStatement> {
    let mut totals = StatementTotals::default();
    totals.lines = reply.total_lines;
    let both = [
        (Movement::Payment, &reply.total_payments),
        (Movement::Refund, &reply.total_refunds),
    ];
    for (movement, sums) in both {
        for (currency, sum) in sums {
            Currency::parse(currency)
                .and_then(|currency| totals.claim(movement, currency, &sum.0))
                .map_err(|fault| unreadable(&format!("totals: {fault}")))?;
        }
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identifiers::{AccountId, CalendarDay};
    use crate::domain::statement::AccountReceiver;

    fn read_page(sums: [&str; 2]) -> Read {
        let [amount, payments] = sums;
        let body = format!(
            r#"{{"merchantId":"ACC-1","date":"20261124","firstLine":1,"lines":[{{"kind":"PAYMENT",
            "merchantOrderNo":"A1","institutionNo":"H-1","amount":{amount},"currency":"CNY",
            "moment":"2026-11-24T09:30:00+08:00"}}],"totalLines":1,
            "totalPayments":{{"CNY":{payments}}},"totalRefunds":{{}}}}"#
        );
        let query = StatementQuery {
            of: AccountReceiver {
                account: AccountId::parse("shop").unwrap(),
                receiver: ReceiverId::parse("ACC-1").unwrap(),
            },
            date: CalendarDay::parse("20261124").unwrap(),
            after: 0,
            limit: 10,
        };
        let reply = serde_json::from_str(&body).map_err(|_| unreadable("not a page"))?;
        page(&query, &reply)
    }

    /// M4, M7: an amount on a page is text or a number, read exactly or rejected.
    #[test]
    fn sums_of_a_page_are_texts_or_numbers() {
        for sums in [
            [r#""12.30""#, r#""12.30""#],
            ["12.30", "12.3"],
            ["12.300", r#""12.300""#],
        ] {
            let page = read_page(sums).unwrap();
            let mut counted = StatementTotals::default();
            page.lines.iter().for_each(|line| counted.add(line));
            assert_eq!(page.lines[0].amount.minor(), 1_230, "{sums:?}");
            assert_eq!(page.totals, counted, "{sums:?}");
        }
        for bad in [
            "12.301",
            "-12.30",
            "1.23e1",
            r#"" 12.30""#,
            "true",
            "null",
            "[12.30]",
        ] {
            assert!(read_page([bad, "12.30"]).is_err(), "{bad}");
            assert!(read_page(["12.30", bad]).is_err(), "{bad}");
        }
    }
}
