//! The HTML that every page is made of. Everything that came from outside passes [`escape`].

use crate::api::page::texts::{BilingualText, PASSWORDS};

/// The only style there is; the policy of the page names its digest.
pub(super) const STYLE: &str = include_str!("style.css");

/// Whether a page loads again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresh {
    /// Only when the payer says so.
    Never,
    /// After so many seconds.
    After(u8),
    /// After so many seconds, as the page of a payer who came back and has looked so often.
    Look(u8, u8),
}

impl Refresh {
    fn tag(self) -> String {
        let content = match self {
            Self::Never => return String::new(),
            Self::After(seconds) => seconds.to_string(),
            Self::Look(seconds, looked) => format!("{seconds};url=?looked={looked}"),
        };
        format!("<meta http-equiv=\"refresh\" content=\"{content}\">")
    }
}

/// Text from outside, for HTML content and quoted attributes. Characters that control direction or a
/// terminal are removed: with them one name can be made to read as another.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars().filter(|letter| !is_format_control(*letter)) {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// Whether a character changes how others are shown instead of being shown.
pub fn is_format_control(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

pub(super) fn paragraph(text: &BilingualText) -> String {
    format!("<p>{}</p>", both(*text))
}

/// Chinese, and English below it.
pub(super) fn both((zh, en): BilingualText) -> String {
    format!("{zh}{}", english(en))
}

pub(super) fn english(text: &str) -> String {
    format!("<span class=\"en\" lang=\"en\">{text}</span>")
}

/// A link to a page of ours, by a relative reference: the address of a page is never part of it.
pub(super) fn link_to(reference: &str, text: BilingualText) -> String {
    let text = both(text);
    format!("<a class=\"link\" id=\"refresh\" href=\"{reference}\">{text}</a>")
}

/// A whole page.
pub(super) fn document(refresh: Refresh, body: &str) -> String {
    let refresh = refresh.tag();
    let footer = both(PASSWORDS);
    format!(
        "<!DOCTYPE html>\n<html lang=\"zh-CN\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <meta name=\"format-detection\" content=\"telephone=no\">\
         <meta name=\"robots\" content=\"noindex\">{refresh}\
         <title>支付 · Payment</title><style>{STYLE}</style></head>\n\
         <body><main>{body}<footer>{footer}</footer></main></body>\n</html>\n"
    )
}
