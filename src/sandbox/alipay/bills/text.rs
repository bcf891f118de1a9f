//! The two texts of a bill, as the vendor lays them out: frame lines that begin with `#`, one row
//! for each payment and refund, values that may end in a tab, nothing quoted.

use std::fmt::Write as _;

use crate::sandbox::alipay::biz::yuan;
use crate::sandbox::alipay::books::AlipayTrade;
use crate::sandbox::alipay::clock::{DAY_MS, compact, local};
use crate::sandbox::alipay::terms::start_of_day;

/// When a day's file is ready, after the day. Unit: milliseconds.
const READY_AFTER_MS: i64 = 9 * 3_600_000;
/// When a file was written, after its last day. Unit: milliseconds.
const EXPORTED_AFTER_MS: i64 = 8 * 3_600_000 + 1_800_000;
/// The service fee: 0.6 per cent. Unit: hundredths of a per cent.
const FEE_BASIS_POINTS: i64 = 60;

const COLUMNS: &str = "支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,\
    操作员,终端号,对方账户,订单金额（元）,商家实收（元）,支付宝红包（元）,集分宝（元）,支付宝优惠（元）,\
    商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,退款批次号/请求号,\
    服务费（元）,分润（元）,备注";
const SUMMARY_COLUMNS: &str = "门店编号,门店名称,交易订单总笔数,退款订单总笔数,订单金额（元）,\
    商家实收（元）,支付宝优惠（元）,商家优惠（元）,卡消费金额（元）,服务费（元）,分润（元）,实收净额（元）";

/// A day or a month.
pub(super) struct BillPeriod {
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
    /// `yyyyMMdd` or `yyyyMM`.
    stamp: String,
}

impl BillPeriod {
    /// `yyyy-MM-dd` or `yyyy-MM`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next());
        if parts.next().is_some() || year.len() != 4 || month.len() != 2 {
            return None;
        }
        match day {
            Some(day) if day.len() == 2 => {
                let stamp = format!("{year}{month}{day}");
                let from_ms = start_of_day(&stamp)?;
                let to_ms = from_ms.checked_add(DAY_MS)?;
                Some(Self {
                    from_ms,
                    to_ms,
                    stamp,
                })
            }
            Some(_) => None,
            None => {
                let next = match month {
                    "12" => format!("{}0101", year.parse::<u32>().ok()?.checked_add(1)?),
                    _ => format!("{year}{:02}01", month.parse::<u32>().ok()?.checked_add(1)?),
                };
                Some(Self {
                    from_ms: start_of_day(&format!("{year}{month}01"))?,
                    to_ms: start_of_day(&next)?,
                    stamp: format!("{year}{month}"),
                })
            }
        }
    }

    /// When the file can be asked for: 9:00 of the next day, or of the 3rd of the next month.
    pub(super) fn ready_ms(&self) -> i64 {
        let days = match self.stamp.len() {
            8 => 0,
            _ => 2,
        };
        let later = DAY_MS.saturating_mul(days).saturating_add(READY_AFTER_MS);
        self.to_ms.saturating_add(later)
    }

    /// Name of a member of the archive.
    pub(super) fn member(&self, seller_id: &str, what: &str) -> String {
        format!("{}_{}_{what}.csv", account(seller_id), self.stamp)
    }

    fn head(&self, title: &str, seller_id: &str) -> String {
        format!(
            "#{title}\r\n#账号：[{}]\r\n#起始日期：[{}]   终止日期：[{}]\r\n",
            account(seller_id),
            in_chinese(self.from_ms),
            in_chinese(self.to_ms),
        )
    }

    fn exported(&self) -> String {
        let at_ms = self.to_ms.saturating_add(EXPORTED_AFTER_MS);
        format!("#导出时间：[{}]\r\n", in_chinese(at_ms))
    }
}

fn account(seller_id: &str) -> String {
    format!("{seller_id}0156")
}

/// `yyyy年MM月dd日 HH:mm:ss`.
fn in_chinese(moment_ms: i64) -> String {
    let stamp = compact(moment_ms);
    let part = |from: usize, to: usize| stamp.get(from..to).unwrap_or_default();
    format!(
        "{}年{}月{}日 {}:{}:{}",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14)
    )
}

/// One row.
pub(super) struct BillRow {
    trade_no: String,
    out_trade_no: String,
    subject: String,
    created_ms: i64,
    done_ms: i64,
    store_id: String,
    operator_id: String,
    terminal_id: String,
    /// Negative for refunds. Unit: fen.
    fen: i64,
    /// Of a refund.
    out_request_no: Option<String>,
}

impl BillRow {
    /// The service fee, rounded half up: taken from payments, given back with refunds. Unit: fen.
    fn fee_fen(&self) -> i64 {
        let scaled = self.fen.saturating_abs().saturating_mul(FEE_BASIS_POINTS);
        let fee = scaled.saturating_add(5_000) / 10_000;
        if self.fen < 0 {
            fee
        } else {
            fee.saturating_neg()
        }
    }

    fn text(&self) -> String {
        let kind = match self.out_request_no {
            None => "交易",
            Some(_) => "退款",
        };
        let number = self.out_request_no.as_deref();
        let number = number.map_or_else(String::new, |number| format!("{number}\t"));
        let sum = yuan(self.fen);
        format!(
            "{trade_no}\t,{out_trade_no}\t,{kind}\t,{subject},{created},{done},{store},,{operator},\
             {terminal},*三(138****0000)\t,{sum},{sum},0.00,0.00,0.00,0.00,0.00,,0.00,0.00,\
             {number},{fee},0.00,\r\n",
            trade_no = self.trade_no,
            out_trade_no = self.out_trade_no,
            subject = self.subject,
            created = local(self.created_ms),
            done = local(self.done_ms),
            store = self.store_id,
            operator = self.operator_id,
            terminal = self.terminal_id,
            fee = yuan(self.fee_fen()),
        )
    }
}

/// The payments and refunds of a merchant in a period, in the order of their completion.
pub(super) fn rows<'a>(
    trades: impl Iterator<Item = &'a AlipayTrade>,
    seller_id: &str,
    period: &BillPeriod,
) -> Vec<BillRow> {
    let within = |at_ms: &i64| (period.from_ms..period.to_ms).contains(at_ms);
    let mut rows = Vec::new();
    for trade in trades.filter(|trade| trade.seller_id == seller_id) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let row = |done_ms: i64, fen: i64, out_request_no: Option<String>| BillRow {
            trade_no: trade.trade_no.clone(),
            out_trade_no: trade.terms.out_trade_no.clone(),
            subject: trade.terms.subject.clone(),
            created_ms: trade.created_ms,
            done_ms,
            store_id: text(&trade.terms.store_id),
            operator_id: text(&trade.terms.operator_id),
            terminal_id: text(&trade.terms.terminal_id),
            fen,
            out_request_no,
        };
        if let Some(paid_ms) = trade.paid_ms.filter(within) {
            rows.push(row(paid_ms, trade.terms.total_fen, None));
        }
        for refund in &trade.refunds {
            if let Some(moved_ms) = refund.moved_ms.filter(within) {
                let fen = refund.fen.saturating_neg();
                rows.push(row(moved_ms, fen, Some(refund.number.clone())));
            }
        }
    }
    rows.sort_by_key(|row| row.done_ms);
    rows
}

/// Number, amount and fees of the payments, or of the refunds.
fn totals(rows: &[BillRow], refunds: BillSide) -> (usize, i64, i64) {
    let chosen = rows.iter().filter(|row| {
        let side = row
            .out_request_no
            .as_ref()
            .map_or(BillSide::Payments, |_| BillSide::Refunds);
        side == refunds
    });
    chosen.fold((0, 0, 0), |(count, fen, fees), row| {
        (
            count.saturating_add(1),
            fen.saturating_add(row.fen),
            fees.saturating_add(row.fee_fen()),
        )
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BillSide {
    Payments,
    Refunds,
}

fn frame(what: &str) -> String {
    format!("#-----------------------------------------{what}")
}

/// The member with one row for each movement.
pub(super) fn details(seller_id: &str, period: &BillPeriod, rows: &[BillRow]) -> String {
    let mut text = period.head("支付宝业务明细查询", seller_id);
    let dashes = "-".repeat(40);
    text.push_str(&frame(&format!("业务明细列表{dashes}\r\n")));
    text.push_str(COLUMNS);
    text.push_str("\r\n");
    for row in rows {
        text.push_str(&row.text());
    }
    let dashes = "-".repeat(36);
    text.push_str(&frame(&format!("业务明细列表结束{dashes}\r\n")));
    let (paid, paid_fen, _) = totals(rows, BillSide::Payments);
    let (returned, returned_fen, _) = totals(rows, BillSide::Refunds);
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "#交易合计：{paid}笔，商家实收共{}元，商家优惠共0.00元\r\n\
         #退款合计：{returned}笔，商家实收退款共{}元，商家优惠退款共0.00元\r\n",
        yuan(paid_fen),
        yuan(returned_fen),
    );
    text.push_str(&period.exported());
    text
}

/// The member with sums.
pub(super) fn summary(seller_id: &str, period: &BillPeriod, rows: &[BillRow]) -> String {
    let mut text = period.head("支付宝业务汇总查询", seller_id);
    let dashes = "-".repeat(40);
    text.push_str(&frame(&format!("业务汇总列表{dashes}\r\n")));
    text.push_str(SUMMARY_COLUMNS);
    text.push_str("\r\n");
    let (paid, paid_fen, paid_fees) = totals(rows, BillSide::Payments);
    let (returned, returned_fen, returned_fees) = totals(rows, BillSide::Refunds);
    let net = yuan(paid_fen.saturating_add(returned_fen));
    let fees = yuan(paid_fees.saturating_add(returned_fees));
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "合计\t,,{paid},{returned},{net},{net},0.00,0.00,0.00,{fees},0.00,{net}\r\n"
    );
    let dashes = "-".repeat(36);
    text.push_str(&frame(&format!("业务汇总列表结束{dashes}\r\n")));
    text.push_str(&period.exported());
    text
}

#[cfg(test)]
mod tests {
    use encoding_rs::GBK;

    use super::*;
    use crate::crypto::digest::sha256;

    fn row(done: &str, fen: i64, number: Option<&str>) -> BillRow {
        let moment = |text: &str| crate::sandbox::alipay::clock::parse_local(text).unwrap();
        BillRow {
            trade_no: "2026010122001412341234567890".to_owned(),
            out_trade_no: "5GM20260101000001".to_owned(),
            subject: "5G消息-话费充值".to_owned(),
            created_ms: moment("2026-01-01 08:00:00"),
            done_ms: moment(done),
            store_id: String::new(),
            operator_id: String::new(),
            terminal_id: String::new(),
            fen,
            out_request_no: number.map(str::to_owned),
        }
    }

    /// The vendor's layout, byte for byte.
    #[test]
    fn the_details_are_laid_out_as_the_vendors() {
        let period = BillPeriod::parse("2026-01-01").unwrap();
        let rows = [
            row("2026-01-01 08:01:12", 1_001, None),
            row("2026-01-01 09:00:05", -301, Some("5GR20260101000001")),
        ];
        let text = details("2088123412341234", &period, &rows);
        let (bytes, ..) = GBK.encode(&text);
        assert_eq!(bytes.len(), 1_184, "{text}");
        let mut digest = String::new();
        for byte in sha256(&bytes) {
            write!(digest, "{byte:02x}").unwrap();
        }
        assert_eq!(
            digest,
            "f1675d62b5f28aa36e78bb79ac9a9ab1af0e8d67eb8c65d5510f5d39b649ee71"
        );
        assert_eq!(
            period.member("2088123412341234", "业务明细"),
            "20881234123412340156_20260101_业务明细.csv"
        );
    }

    /// A day and a month; nothing else.
    #[test]
    fn periods_are_days_or_months() {
        let month = BillPeriod::parse("2026-12").unwrap();
        assert_eq!(local(month.to_ms), "2027-01-01 00:00:00");
        assert_eq!(local(month.ready_ms()), "2027-01-03 09:00:00");
        for wrong in [
            "2026",
            "2026-1-1",
            "2026-01-32",
            "20260101",
            "2026-01-01-1",
            "2026-13",
        ] {
            assert!(BillPeriod::parse(wrong).is_none(), "{wrong}");
        }
    }
}
