//! The payer's texts, Chinese first and English second, and how each view looks. They state what is known
//! and what to do, and never promise what only an institution can know.

use http::StatusCode;

use crate::api::page::view::PageView;
use crate::domain::order::CloseReason;

/// One sentence in Chinese and in English.
pub type BilingualText = (&'static str, &'static str);

pub(super) const CONTINUE: BilingualText = ("继续支付", "Continue");
pub(super) const I_HAVE_PAID: BilingualText =
    ("我已付款，查看结果", "I have paid: show the result");
pub(super) const REFRESH_NOW: BilingualText = ("立即刷新", "Look again now");
pub(super) const CHOOSE_ANOTHER: BilingualText = ("换一家", "Choose another");
pub(super) const BACK: BilingualText = ("返回支付页面", "Back to the payment page");
pub(super) const NOT_ACCEPTED: BilingualText = (
    "该机构未受理，请换一家。",
    "This institution did not accept the payment. Please choose another.",
);
pub(super) const NONE_OPEN: BilingualText = (
    "暂无可用的支付机构，请稍后再试或返回应用号。",
    "No payment institution is available at present. Please try again later.",
);
pub(super) const NOT_HERE: BilingualText = (
    "在此处无法使用，请换一家，或用其他浏览器打开本页。",
    "It does not work here. Choose another, or open this page in another browser.",
);
pub(super) const BY_ITSELF: BilingualText = (
    "正在前往支付机构 …",
    "Going on to the payment institution …",
);
pub(super) const SCAN: BilingualText = (
    "请用手机钱包扫码支付",
    "Scan this code with your wallet to pay",
);
pub(super) const OPENING_WALLET: BilingualText = ("正在打开微信支付 …", "Opening WeChat Pay …");
pub(super) const IN_ITS_WINDOW: BilingualText = (
    "请在弹出的窗口中完成付款。",
    "Please complete the payment in the window that appears.",
);
pub(super) const NEEDS_SCRIPTS: BilingualText = (
    "此支付方式需要允许脚本。请允许后重试，或返回并换一家。",
    "This way to pay needs scripts. Allow them, or go back and choose another.",
);
/// R-6.1.1-3a.
pub(super) const PASSWORDS: BilingualText = (
    "请只在支付机构的页面输入密码，切勿在对话中发送。",
    "Enter passwords only on the institution's own page, never in a chat.",
);

pub(super) const TICK: &str = "<svg class=\"sign\" viewBox=\"0 0 24 24\" aria-hidden=\"true\"><path d=\"M4 12.5 10 18.5 20.5 6.5\"/></svg>";
pub(super) const CLOCK: &str = "<svg class=\"sign\" viewBox=\"0 0 24 24\" aria-hidden=\"true\"><circle cx=\"12\" cy=\"12\" r=\"10\"/><path d=\"M12 6.5V12l3.5 2\"/></svg>";
pub(super) const STOP: &str = "<svg class=\"sign\" viewBox=\"0 0 24 24\" aria-hidden=\"true\"><path d=\"M12 3.5v11M12 20v.1\"/></svg>";
pub(super) const PHONE: &str = "<svg class=\"sign\" viewBox=\"0 0 24 24\" aria-hidden=\"true\"><rect x=\"5.5\" y=\"1.5\" width=\"13\" height=\"21\" rx=\"2.5\"/><path d=\"M11 18.5h2\"/></svg>";

/// R-6.5-6: the header's back arrow leads to the merchant; a page cannot close itself.
pub(super) const GO_BACK: BilingualText = (
    "点击顶部返回箭头，即可回到应用号。",
    "Use the back arrow at the top to return to the Chatbot.",
);
pub(super) const CONFIRMING_ADVICE: BilingualText = (
    "请勿重复付款。本页会自动更新。",
    "Please do not pay again. This page updates itself.",
);
pub(super) const IF_JUST_PAID: BilingualText = (
    "如您刚刚已付款，请稍后再查看结果，请勿重复付款。",
    "If you have just paid, look again in a moment, and do not pay again.",
);
/// R-6.1.1-2.
pub(super) const PAID_ALREADY: BilingualText = (
    "本订单已支付，无需再次付款。",
    "This order is already paid; there is nothing more to pay.",
);
pub(super) const ORDER_AGAIN: BilingualText = (
    "如需购买，请回到应用号重新下单。",
    "To buy, go back to the Chatbot and order again.",
);
pub(super) const IF_PAID: BilingualText = (
    "如您已付款，请勿重复支付，并与商户联系。",
    "If you did pay, do not pay again, and ask the merchant.",
);
pub(super) const EXCESS_PAYMENT: BilingualText = (
    "我们收到一笔不应收取的付款，已登记待退。",
    "A payment arrived that was not due; it is booked to be refunded.",
);

/// How one view looks and what it shows.
pub(super) struct PagePanel {
    pub(super) class: &'static str,
    pub(super) sign: &'static str,
    pub(super) title: BilingualText,
    pub(super) lines: &'static [BilingualText],
}

pub(super) fn panel(view: PageView<'_>) -> PagePanel {
    let (class, sign, title, lines): (_, _, _, &[BilingualText]) = match view {
        PageView::Choose(_) => ("", "", ("请选择支付机构", "Choose how to pay"), &[]),
        PageView::Start(_) => {
            let title = (
                "请核对订单，然后去支付",
                "Check the order, then go on to pay",
            );
            ("", "", title, &[])
        }
        PageView::NotPaid(_) => {
            let title = ("尚未收到付款", "No payment has arrived yet");
            ("", CLOCK, title, &[IF_JUST_PAID])
        }
        PageView::Continue(_) => ("", CLOCK, ("等待您付款", "Waiting for your payment"), &[]),
        PageView::Confirming(_) => {
            let title = (
                "正在与支付机构确认 …",
                "Confirming with the payment institution …",
            );
            ("wait", CLOCK, title, &[CONFIRMING_ADVICE])
        }
        PageView::Elsewhere => {
            let title = (
                "请在应用号中完成支付",
                "Please complete the payment in the Chatbot",
            );
            ("", PHONE, title, &[GO_BACK])
        }
        PageView::Paid => {
            let title = ("支付成功", "Payment successful");
            ("good", TICK, title, &[PAID_ALREADY, GO_BACK])
        }
        PageView::Ended(CloseReason::Expired) => {
            let title = ("订单已过期", "This order has expired");
            ("warn", STOP, title, &[ORDER_AGAIN, GO_BACK, IF_PAID])
        }
        PageView::Ended(CloseReason::Merchant) => {
            let title = ("订单已关闭", "This order was closed");
            ("warn", STOP, title, &[ORDER_AGAIN, GO_BACK, IF_PAID])
        }
    };
    PagePanel {
        class,
        sign,
        title,
        lines,
    }
}

/// Title and advice for a form that a page of another site posted.
pub(super) const CROSS_SITE: (BilingualText, BilingualText) = (
    (
        "该请求来自其他网站",
        "This request came from another website",
    ),
    (
        "尚未执行任何操作。请返回支付页面，自行确认后再继续。",
        "Nothing was done. Go back to the payment page, and go on from there yourself.",
    ),
);

/// Title and advice for a refusal of this status. They say nothing of money: a request that was refused
/// late may have started something.
pub fn refused(status: StatusCode) -> (BilingualText, BilingualText) {
    match status.as_u16() {
        404 => (
            ("未找到该支付页面", "This payment page does not exist"),
            (
                "链接不完整或已失效，请回到应用号重新打开。",
                "The link is incomplete or no longer valid. Please open it again from the Chatbot.",
            ),
        ),
        403 | 422 => (
            (
                "该机构暂不可用于此订单",
                "This institution is not available for this order",
            ),
            ("请返回并换一家。", "Please go back and choose another."),
        ),
        409 => (
            ("暂时无法执行此操作", "This cannot be done at the moment"),
            (
                "请返回查看订单的最新状态。",
                "Please go back and see how the order stands.",
            ),
        ),
        429 | 503 => (
            ("系统繁忙", "We are busy at the moment"),
            (
                "请稍候片刻，再返回查看订单状态。",
                "Please wait a moment, then go back and see how the order stands.",
            ),
        ),
        500.. => (
            ("结果正在确认", "The result is being confirmed"),
            (
                "请勿重复付款，返回即可查看订单状态。",
                "Please do not pay again. Go back and see how the order stands.",
            ),
        ),
        _ => (
            ("无法识别该请求", "This request could not be understood"),
            (
                "请返回支付页面重新选择。",
                "Please go back to the payment page and choose again.",
            ),
        ),
    }
}
