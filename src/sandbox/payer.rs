//! A simulated payer with a minimal browser: opens a page, submits a form, reads one redirect.
//! Runs no scripts, keeps no cookies.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, ORIGIN, REFERER};
use http::{HeaderMap, Method, Request, Uri};
use serde_json::{Value, json};

use crate::sandbox::authority::CertificateFault;
use crate::sandbox::exchange::{ExchangeFault, SandboxCaller};

/// Redirects in a row, at most.
const REDIRECTS_MAX: usize = 5;

const FORM: &str = "application/x-www-form-urlencoded";

/// Why the payer could not continue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayerFault {
    /// No response was received.
    #[error(transparent)]
    Exchange(#[from] ExchangeFault),
    /// The page has no form.
    #[error("no form on the page (status {0})")]
    NoForm(u16),
    /// An invalid URL.
    #[error("not a URL: {0}")]
    Address(String),
    /// The response was not a redirect.
    #[error("no redirect (status {0})")]
    NoRedirect(u16),
}

/// The page in the browser.
#[derive(Debug, Clone)]
pub struct BrowserPage {
    /// Its URL.
    pub url: String,
    /// HTTP status.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body.
    pub html: String,
}

impl BrowserPage {
    /// Where it redirects to.
    fn redirect(&self) -> Result<String, PayerFault> {
        let location = self.headers.get(LOCATION).and_then(|to| to.to_str().ok());
        match location {
            Some(location) if self.status == 303 => absolute(&self.url, location)
                .ok_or_else(|| PayerFault::Address(location.to_owned())),
            _ => Err(PayerFault::NoRedirect(self.status)),
        }
    }

    /// The institution that the gateway's page goes on to, if this is such a page.
    fn continued(&self) -> Option<String> {
        attribute(&self.tag("continue")?, "value")
    }

    /// The first tag with this id.
    fn tag(&self, id: &str) -> Option<String> {
        let mut tags = self.html.split('<').filter_map(|tag| tag.split('>').next());
        let found = tags.find(|tag| attribute(tag, "id").as_deref() == Some(id));
        found.map(str::to_owned)
    }

    /// The first form's action URL, and the names and values of its hidden fields.
    fn form(&self) -> Option<(String, Vec<(String, String)>)> {
        let start = self.html.find("<form")?;
        let form = self.html.get(start..)?;
        let form = form.split("</form>").next()?;
        let mut tags = form.split('<').filter_map(|tag| tag.split('>').next());
        let head = tags.find(|tag| tag.starts_with("form"))?;
        let action = attribute(head, "action").unwrap_or_default();
        let hidden = tags
            .filter(|tag| tag.starts_with("input"))
            .filter(|tag| attribute(tag, "type").as_deref() == Some("hidden"))
            .filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value")?)))
            .collect();
        Some((absolute(&self.url, &action)?, hidden))
    }
}

/// A payer.
pub struct SimulatedPayer {
    caller: SandboxCaller,
}

impl SimulatedPayer {
    /// A payer whose browser trusts these roots (PEM).
    ///
    /// # Errors
    /// [`CertificateFault`] for roots that cannot be read.
    pub fn new(roots_pem: &str) -> Result<Self, CertificateFault> {
        let caller = SandboxCaller::new(roots_pem, None)?;
        Ok(Self { caller })
    }

    /// Opens a URL.
    ///
    /// # Errors
    /// [`PayerFault::Exchange`], [`PayerFault::Address`].
    pub async fn open(&self, url: &str) -> Result<BrowserPage, PayerFault> {
        self.exchange(Method::GET, url, None, None).await
    }

    /// Opens a URL from a page of another party, which the browser names.
    ///
    /// # Errors
    /// [`PayerFault::Exchange`], [`PayerFault::Address`].
    pub async fn open_from(&self, referer: &str, url: &str) -> Result<BrowserPage, PayerFault> {
        self.exchange(Method::GET, url, None, Some(referer)).await
    }

    /// Opens a payment URL, goes on to the institution and pays there; returns the next page.
    ///
    /// # Errors
    /// [`PayerFault`] of any step.
    pub async fn pay(&self, pay_url: &str) -> Result<BrowserPage, PayerFault> {
        let page = self.arrive(pay_url).await?;
        self.submit(&page, "outcome", "pay").await
    }

    /// The same, and makes the payment fail.
    ///
    /// # Errors
    /// [`PayerFault`] of any step.
    pub async fn fail(&self, pay_url: &str) -> Result<BrowserPage, PayerFault> {
        let page = self.arrive(pay_url).await?;
        self.submit(&page, "outcome", "fail").await
    }

    /// Opens a payment URL and goes on to the institution: from the gateway's page, where the institution
    /// is known, by its button. Where the payer has to choose first, that page is returned.
    ///
    /// # Errors
    /// [`PayerFault`] of any step.
    pub async fn arrive(&self, pay_url: &str) -> Result<BrowserPage, PayerFault> {
        let page = self.open(pay_url).await?;
        let page = self.follow(page).await?;
        let Some(institution) = page.continued() else {
            return Ok(page);
        };
        let page = self.submit(&page, "institutionId", &institution).await?;
        let page = self.follow(page).await?;
        self.go_on(page).await
    }

    /// Does what the script of a page does that goes on by itself.
    async fn go_on(&self, page: BrowserPage) -> Result<BrowserPage, PayerFault> {
        let Some(tag) = page.tag("onward") else {
            return Ok(page);
        };
        if let Some(to) = attribute(&tag, "href") {
            let policy = page.headers.get("referrer-policy");
            let tells = policy.is_some_and(|policy| policy == "origin");
            let from = origin(&page.url).filter(|_| tells);
            let from = from.map(|from| format!("{from}/"));
            return self.exchange(Method::GET, &to, None, from.as_deref()).await;
        }
        match page.form() {
            Some((action, fields)) => self.post(&action, &fields).await,
            None => Ok(page),
        }
    }

    /// Follows redirects, as a browser does.
    async fn follow(&self, page: BrowserPage) -> Result<BrowserPage, PayerFault> {
        let mut page = page;
        for _ in 0..REDIRECTS_MAX {
            if page.status != 303 {
                break;
            }
            page = self.open(&page.redirect()?).await?;
        }
        Ok(page)
    }

    /// Opens the gateway's page, chooses an institution, and returns where it leads to (303).
    ///
    /// # Errors
    /// [`PayerFault`] of any step; [`PayerFault::NoRedirect`] if there is no redirect yet.
    pub async fn choose(&self, page_url: &str, institution: &str) -> Result<String, PayerFault> {
        let page = self.press(page_url, "institutionId", institution).await?;
        let to = page.redirect()?;
        if to != format!("{page_url}/go") {
            return Ok(to);
        }
        self.open(&to).await?.redirect()
    }

    /// Opens a page and submits its first form with this button.
    ///
    /// # Errors
    /// [`PayerFault`] of any step.
    pub async fn press(
        &self,
        url: &str,
        name: &str,
        value: &str,
    ) -> Result<BrowserPage, PayerFault> {
        let page = self.open(url).await?;
        self.submit(&page, name, value).await
    }

    /// The same, coming from a page of another party.
    ///
    /// # Errors
    /// [`PayerFault`] of any step.
    pub async fn press_from(
        &self,
        referer: &str,
        url: &str,
        name: &str,
        value: &str,
    ) -> Result<BrowserPage, PayerFault> {
        let page = self.open_from(referer, url).await?;
        self.submit(&page, name, value).await
    }

    async fn submit(
        &self,
        page: &BrowserPage,
        name: &str,
        value: &str,
    ) -> Result<BrowserPage, PayerFault> {
        let (action, mut fields) = page.form().ok_or(PayerFault::NoForm(page.status))?;
        fields.push((name.to_owned(), value.to_owned()));
        self.post(&action, &fields).await
    }

    async fn post(
        &self,
        action: &str,
        fields: &[(String, String)],
    ) -> Result<BrowserPage, PayerFault> {
        let body: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", quoted(name), quoted(value)))
            .collect();
        let form = Some((FORM, body.join("&")));
        self.exchange(Method::POST, action, form, None).await
    }

    /// Pays in the simulated SDK, with the parameters it was started with. `outcome`: `pay`,
    /// `fail`, `nothing`. Returns the SDK's response.
    ///
    /// # Errors
    /// [`PayerFault`] of any step.
    pub async fn pay_by_sdk(
        &self,
        institution_origin: &str,
        sdk_parameters: &Value,
        outcome: &str,
    ) -> Result<BrowserPage, PayerFault> {
        let body = json!({ "token": sdk_parameters.get("token"), "outcome": outcome });
        let url = format!("{institution_origin}/sdk/pay");
        let body = Some(("application/json", body.to_string()));
        self.exchange(Method::POST, &url, body, None).await
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        body: Option<(&str, String)>,
        referer: Option<&str>,
    ) -> Result<BrowserPage, PayerFault> {
        let wrong = || PayerFault::Address(url.to_owned());
        let mut request = Request::builder().method(method).uri(url);
        let body = body.map_or_else(String::new, |(media_type, body)| {
            let headers = request.headers_mut();
            if let (Some(headers), Ok(media_type)) = (headers, media_type.parse()) {
                headers.insert(CONTENT_TYPE, media_type);
            }
            body
        });
        if !body.is_empty() {
            // Browsers send the origin of a form.
            request = request.header(ORIGIN, origin(url).ok_or_else(wrong)?);
        }
        if let Some(referer) = referer {
            request = request.header(REFERER, referer);
        }
        let request = request.body(Bytes::from(body)).map_err(|_| wrong())?;
        let (head, body) = self.caller.send(request).await?.into_parts();
        Ok(BrowserPage {
            url: url.to_owned(),
            status: head.status.as_u16(),
            headers: head.headers,
            html: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}

fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

fn absolute(base: &str, reference: &str) -> Option<String> {
    if reference.is_empty() {
        return Some(base.to_owned());
    }
    if reference.starts_with("https://") {
        return Some(reference.to_owned());
    }
    if reference.starts_with('/') {
        return Some(format!("{}{reference}", origin(base)?));
    }
    let uri: Uri = base.parse().ok()?;
    let folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    Some(format!("{}{folder}/{reference}", origin(base)?))
}

/// An attribute's value, with the five HTML entities unescaped.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\""))?;
    let value = tag.get(start..)?.split('"').nth(1)?;
    Some(
        value
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&amp;", "&"),
    )
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    ///
    #[test]
    fn the_form_of_a_page_is_found_with_its_hidden_fields() {
        let page = BrowserPage {
            url: "https://pay.example/pay/abc".to_owned(),
            status: 200,
            headers: HeaderMap::new(),
            html: "<p>x</p><form method=\"post\" action=\"/pay/abc\"><input type=\"hidden\" \
                   name=\"k\" value=\"a&amp;b\"><button name=\"outcome\">Pay</button></form>"
                .to_owned(),
        };
        let hidden = vec![("k".to_owned(), "a&b".to_owned())];
        let action = "https://pay.example/pay/abc".to_owned();
        assert_eq!(page.form(), Some((action, hidden)));
        assert_eq!(quoted("a b&"), "a%20b%26");
    }
}
