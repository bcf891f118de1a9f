//! Tests the payer's page in a real Chromium of a phone's size, mostly without scripts, through
//! `WebDriver`. The driver does all waiting. Screenshots go to `target/screenshots/`.

mod leading_on;

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paymux::command::demo::enrolment::{BLUE, DemoInstitutionProfile, RED};
use paymux::command::demo::environment::{DemoEnvironment, TemporaryFolder, WAIT_MAX, payment_of};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The name of the executable on Debian and Ubuntu.
const DRIVERS: [&str; 2] = ["chromedriver", "/usr/bin/chromedriver"];
const WIDTH: f64 = 390.0;
/// The key of an element id in the driver's replies.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A chromedriver process with one session.
struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// The driver process.
    chromium: String,
    profile: TemporaryFolder,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver stops its browser only when the session ends.
        if self.end_session().is_err() {
            let _ = Command::new("kill")
                .args(["-KILL", &self.chromium])
                .status();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Whether the browser runs scripts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scripts {
    Run,
    Blocked,
}

impl Browser {
    async fn start() -> Self {
        Self::start_with(Scripts::Blocked).await
    }

    async fn start_with(scripts: Scripts) -> Self {
        let mut driver = DRIVERS
            .iter()
            .find_map(|name| {
                let mut command = Command::new(name);
                command.arg("--port=0").stdout(Stdio::piped());
                command.stderr(Stdio::null()).spawn().ok()
            })
            .expect("chromedriver is needed here: apt-get install chromium chromium-driver");
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, port) = line.split_once("successfully on port ")?;
                port.trim_end_matches('.').parse().ok()
            })
            .expect("chromedriver prints its port");
        let profile = TemporaryFolder::make().unwrap();
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
            chromium: String::new(),
            profile,
        };
        let capabilities = capabilities(browser.profile.path(), scripts);
        let opened = browser.call("POST", "/session", &capabilities).await;
        browser.session = opened["sessionId"].as_str().unwrap().to_owned();
        browser.chromium = opened["capabilities"]["goog:processID"].to_string();
        // Element lookups wait inside the driver.
        let waits = json!({ "implicit": WAIT_MAX.as_millis() });
        browser.post("timeouts", &waits).await;
        browser
    }

    /// Ends the session and waits until the browser has exited and released the profile directory.
    fn end_session(&self) -> std::io::Result<()> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(WAIT_MAX))?;
        let (session, port) = (&self.session, self.port);
        write!(
            stream,
            "DELETE /session/{session} HTTP/1.1\r\nhost: localhost:{port}\r\ncontent-length: 0\r\n\r\n"
        )?;
        stream.read_exact(&mut [0])
    }

    /// Sends one command to the driver; returns the value of its reply.
    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "GET" {
            String::new()
        } else {
            body.to_string()
        };
        let port = self.port;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            read_answer(&mut stream).await
        };
        // A browser starts slowly on a machine that runs other tests.
        let answer = tokio::time::timeout(WAIT_MAX * 6, exchange).await;
        let (head, mut body) = answer.unwrap_or_else(|_| panic!("{method} {path}: no answer"));
        assert!(
            head.contains(" 200 "),
            "{method} {path}: {}",
            body["value"]["message"]
        );
        body["value"].take()
    }

    async fn post(&self, what: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{what}", self.session);
        self.call("POST", &path, body).await
    }

    async fn read(&self, what: &str) -> Value {
        let path = format!("/session/{}/{what}", self.session);
        self.call("GET", &path, &Value::Null).await
    }

    async fn go(&self, url: &str) {
        self.post("url", &json!({ "url": url })).await;
    }

    async fn url(&self) -> String {
        self.read("url").await.as_str().unwrap().to_owned()
    }

    /// Waits for the element of this selector.
    async fn find(&self, selector: &str) -> String {
        let by = json!({ "using": "css selector", "value": selector });
        let found = self.post("element", &by).await;
        format!("element/{}", found[ELEMENT].as_str().unwrap())
    }

    async fn text(&self, selector: &str) -> String {
        let element = self.find(selector).await;
        let text = self.read(&format!("{element}/text")).await;
        text.as_str().unwrap().to_owned()
    }

    async fn attribute(&self, selector: &str, name: &str) -> String {
        let element = self.find(selector).await;
        let value = self.read(&format!("{element}/attribute/{name}")).await;
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Taps the middle of the element. A mouse click does not work: without scripts the driver
    /// waits for its end for ever.
    async fn tap(&self, selector: &str) {
        let element = self.find(selector).await;
        let id = element.trim_start_matches("element/");
        let tap = json!({ "actions": [{
            "type": "pointer", "id": "finger", "parameters": { "pointerType": "touch" },
            "actions": [
                { "type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": { ELEMENT: id } },
                { "type": "pointerDown", "button": 0 },
                { "type": "pointerUp", "button": 0 },
            ],
        }] });
        self.post("actions", &tap).await;
    }

    async fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.post(&format!("{element}/value"), &json!({ "text": text }))
            .await;
    }

    /// The element is within the screen's width and large enough to tap.
    async fn fits(&self, selector: &str, least_height: f64) {
        let element = self.find(selector).await;
        let rect = self.read(&format!("{element}/rect")).await;
        let side = |name: &str| rect[name].as_f64().unwrap();
        let (left, width) = (side("x"), side("width"));
        let right: f64 = [left, width].iter().sum();
        assert!(left >= 0.0 && right <= WIDTH, "{selector}: {rect}");
        assert!(side("height") >= least_height, "{selector}: {rect}");
    }

    /// Saves a screenshot.
    async fn shot(&self, name: &str) {
        let picture = self.read("screenshot").await;
        let picture = STANDARD.decode(picture.as_str().unwrap()).unwrap();
        let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "target", "screenshots"]
            .iter()
            .collect();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }
}

/// Reads head and body. The driver sends `Connection: close` and keeps the connection open, so the
/// length counts.
async fn read_answer(stream: &mut TcpStream) -> (String, Value) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .expect("a reply has a content length");
    let mut body = vec![0; length.trim().parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}

/// A phone with a profile directory of its own, that makes no background requests.
fn capabilities(profile: &Path, scripts: Scripts) -> Value {
    let data = format!("--user-data-dir={}", profile.display());
    let allowed = match scripts {
        Scripts::Run => 1,
        Scripts::Blocked => 2,
    };
    json!({ "capabilities": { "alwaysMatch": {
        "acceptInsecureCerts": true,
        "goog:chromeOptions": {
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", data,
            ],
            "mobileEmulation": {
                "deviceMetrics": { "width": 390, "height": 844, "pixelRatio": 2.0 },
            },
            "prefs": { "profile.managed_default_content_settings.javascript": allowed },
        },
    } } })
}

/// The selector of an institution's button on the page.
fn institution(cast: DemoInstitutionProfile) -> String {
    format!("#institution-{}", cast.id)
}

/// X-6, R-5.1.1-3, R-6.1.1-2, R-6.3.2-3b: the payer sees the order, chooses an institution, pays
/// there behind a masked field, and our page then shows the order as paid.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_chooses_and_pays_on_a_phone() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let _open = stage.open().await.unwrap();
    let order = stage.tea.order("T1", "WEBVIEW", "12.30", "13800001234");
    let placed = stage.tea.place(&order).await.unwrap();
    let page = placed.text("payUrl");
    let browser = Browser::start().await;

    browser.go(page).await;
    browser.shot("1-choose").await;
    assert_eq!(browser.attribute("#state", "data-state").await, "choose");
    assert_eq!(browser.text("#merchant").await, "Tea House");
    assert_eq!(browser.text("#sum").await, "¥12.30");
    assert!(browser.text("#goods").await.contains("龙井"));
    browser.fits("main", 400.0).await;
    browser.fits(&institution(RED), 44.0).await;

    browser.tap(&institution(BLUE)).await;
    let masked = browser.attribute("input[name=password]", "type").await;
    assert_eq!(masked, "password");
    let there = browser.url().await;
    assert!(there.starts_with(&stage.blue.origin()), "{there}");
    browser.write("input[name=password]", "123456").await;
    browser.shot("2-institution").await;
    browser.fits("main", 300.0).await;
    browser.fits("button.pay", 44.0).await;

    browser.go(page).await;
    browser.shot("3-waiting").await;
    assert_eq!(browser.attribute("#state", "data-state").await, "continue");
    browser.tap("#continue").await;
    browser.tap("button.pay").await;
    browser.find("main a").await;
    assert!(browser.text("main").await.contains("支付成功"));
    browser.shot("4-paid-there").await;

    stage
        .tea
        .wait_for_notification("ORDER_PAID", "T1")
        .await
        .unwrap();
    browser.go(page).await;
    browser.shot("5-paid").await;
    assert_eq!(browser.attribute("#state", "data-state").await, "paid");
    assert!(browser.text("body").await.contains("138****1234"));
    assert_eq!(
        payment_of(&stage.blue.books(), "T1").unwrap().taken_cents,
        1_230
    );
}

/// V1, R-6.5-1a: while the outcome is unknown the page says so, and refreshes itself without a
/// script.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_an_unresolved_payment_refreshes_itself() {
    let stage = DemoEnvironment::set(crate::socket::ports::free(), "")
        .await
        .unwrap();
    let _open = stage.open().await.unwrap();
    let order = stage.tea.order("T1", "WEBVIEW", "66.63", "13800001234");
    let placed = stage.tea.place(&order).await.unwrap();
    let page = placed.text("payUrl");
    let browser = Browser::start().await;
    browser.go(page).await;
    browser.tap(&institution(RED)).await;
    browser.find("[data-state=confirming]").await;
    browser.shot("6-confirming").await;
    browser.find("[data-state=continue]").await;
    assert_eq!(browser.url().await, page);
    let book = stage.red.books();
    assert_eq!(
        payment_of(&book, "T1").unwrap().creates,
        1,
        "queried, not sent again"
    );

    let closed = stage
        .tea
        .ask("/v1/orders/close", "T1", json!({}))
        .await
        .unwrap();
    assert_eq!(closed.text("result"), "CLOSED");
    browser.go(page).await;
    browser.shot("7-closed").await;
    assert_eq!(browser.attribute("#state", "data-state").await, "closed");
    browser.go(&format!("{}/pay/nobodys", stage.origin())).await;
    browser.shot("8-unknown").await;
    assert_eq!(browser.attribute("#state", "data-state").await, "refused");
}
