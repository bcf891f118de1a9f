//! A complete environment on one machine: simulated institutions, two merchants, a payer, and a
//! gateway with new keys and a new database in a temporary folder. Real TLS, loopback only; the
//! folder is deleted at the end.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::command::demo::enrolment::{
    self, BLUE, BOOKS, DemoInstitutionProfile, DemoMerchantProfile, GREEN, INSTITUTIONS, RED, TEA,
};
use crate::command::demo::ports::{Ports, loopback};
use crate::command::keys;
use crate::command::sandbox::{gateway_key_ring, pair, read};
use crate::config;
use crate::domain::identifiers::hex;
use crate::edge::{DrainOutcome, Stop};
use crate::run::Gateway;
use crate::sandbox::{
    ClientResponse, ClientSettings, InstitutionDelays, InstitutionLedger, InstitutionSettings,
    MerchantClient, MerchantSettings, PemIdentity, RefundCapabilities, SandboxInstitution,
    SandboxMerchant, SandboxNotification, SandboxPayment, SimulatedPayer,
};
use crate::world::{Clock, Entropy, SystemClock, SystemEntropy};

/// How long to wait for something that should happen at once; only a failing step waits this long.
pub const WAIT_MAX: Duration = Duration::from_secs(20);

/// A folder for one run, accessible to its owner only; deleted on drop.
pub struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Creates it, with an unguessable name.
    ///
    /// # Errors
    /// The system's temporary folder is not writable.
    pub fn make() -> anyhow::Result<Self> {
        let entropy: &dyn Entropy = &SystemEntropy;
        let name = format!("paymux-demo-{}", hex(&entropy.draw::<6>()));
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // An error cannot be reported here; the system cleans up temporary files as well.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A merchant: a server for notifications, and a client of the gateway.
pub struct DemoMerchant {
    /// How it is enrolled.
    pub role: DemoMerchantProfile,
    /// Receives notifications.
    pub merchant: SandboxMerchant,
    /// Calls the gateway.
    pub client: MerchantClient,
}

impl DemoMerchant {
    /// The fields of an order. The merchant's order number is also the goods number, by which an
    /// institution's ledger can be searched.
    pub fn order(&self, number: &str, business_type: &str, sum: &str, mobile: &str) -> Value {
        json!({
            "transactionType": "PASSWORD_PAY",
            "businessType": business_type,
            "bankReturnUrl": self.merchant.notice_url(),
            "merchantOrderNo": number,
            "merchantName": self.role.name,
            "orderDate": SystemClock::start().now().date(),
            "orderAmount": sum,
            "merchantId": self.role.id,
            "mobileNo": mobile,
            "goodsNo": number,
            "goodsName": "明前龙井 Longjing tea",
        })
    }

    /// Places an order.
    ///
    /// # Errors
    /// No complete response was received.
    pub async fn place(&self, order: &Value) -> anyhow::Result<ClientResponse> {
        Ok(self.client.post("/v1/orders", order).await?)
    }

    /// Calls an endpoint about the order of this merchant order number, with further fields.
    ///
    /// # Errors
    /// No complete response was received.
    pub async fn ask(
        &self,
        path: &str,
        number: &str,
        more: Value,
    ) -> anyhow::Result<ClientResponse> {
        let mut body = json!({ "merchantId": self.role.id, "merchantOrderNo": number });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        Ok(self.client.post(path, &body).await?)
    }

    /// Waits for the event of this type about this order.
    ///
    /// # Errors
    /// It did not arrive within [`WAIT_MAX`].
    pub async fn wait_for_notification(
        &self,
        event_type: &str,
        number: &str,
    ) -> anyhow::Result<SandboxNotification> {
        self.merchant
            .wait_for(|inbox| inbox.event(event_type, number).cloned(), WAIT_MAX)
            .await
            .with_context(|| format!("expected {event_type} for {number}; the inbox has none"))
    }
}

/// The payment of this merchant order number in an institution's ledger.
pub fn payment_of<'a>(book: &'a InstitutionLedger, number: &str) -> Option<&'a SandboxPayment> {
    book.payments()
        .find(|payment| payment.terms.goods_no.as_deref() == Some(number))
}

/// The running parties except the gateway, and what the gateway needs to start.
pub struct DemoEnvironment {
    /// Blue Bank.
    pub blue: SandboxInstitution,
    /// Red Pay.
    pub red: SandboxInstitution,
    /// Green Card.
    pub green: SandboxInstitution,
    /// The first merchant.
    pub tea: DemoMerchant,
    /// The second merchant.
    pub books: DemoMerchant,
    /// The payer.
    pub payer: SimulatedPayer,
    /// The gateway's configuration file.
    pub config: PathBuf,
    /// The port of each party.
    pub ports: Ports,
    /// Number of files that `paymux keys dev` created.
    pub files_made: usize,
    folder: Arc<TemporaryFolder>,
}

impl DemoEnvironment {
    /// Writes `routes.toml`, creates keys and certificates, starts institutions and merchants.
    /// `more` is appended to `routes.toml`.
    ///
    /// # Errors
    /// A port is in use, or a file cannot be written.
    pub async fn set(ports: Ports, more: &str) -> anyhow::Result<Self> {
        let folder = Arc::new(TemporaryFolder::make()?);
        let config = folder.path().join(config::FILE);
        let now = SystemClock::start().now();
        let year = now.date().get(..4).unwrap_or_default().parse()?;
        let text = enrolment::routes(folder.path(), &ports, year);
        fs::write(&config, text + more)?;
        let mut made = Vec::new();
        keys::dev(&mut made, &config, &folder.path().join("certs"), now)?;
        let files_made = made.split(|byte| *byte == b'\n').count().saturating_sub(1);
        let certs = folder.path().join("certs");
        let [first, second, third] = ports.institutions;
        Ok(Self {
            blue: institution(&certs, BLUE, first).await?,
            red: institution(&certs, RED, second).await?,
            green: institution(&certs, GREEN, third).await?,
            tea: shop(&certs, TEA, ports.tea, &ports).await?,
            books: shop(&certs, BOOKS, ports.books, &ports).await?,
            payer: SimulatedPayer::new(&read(&certs.join("ca.pem"))?)?,
            config,
            ports,
            files_made,
            folder,
        })
    }

    /// The same on free ports.
    ///
    /// # Errors
    /// See [`DemoEnvironment::set`].
    pub async fn start_on_free_ports(more: &str) -> anyhow::Result<Self> {
        Self::set(Ports::free()?, more).await
    }

    /// Reads the configuration, and starts the gateway in this process.
    ///
    /// # Errors
    /// The configuration has faults, a port is in use, or the store cannot be opened.
    pub async fn open(&self) -> anyhow::Result<DemoGateway> {
        let now = SystemClock::start().now();
        let config = config::read(&self.config, now, &config::environment)
            .map_err(|faults| anyhow::anyhow!("{faults}"))?;
        let folder = Arc::clone(&self.folder);
        let gateway = Gateway::build_in(config, folder).await?;
        Ok(DemoGateway {
            stop: gateway.stopper(),
            serving: tokio::spawn(gateway.serve()),
        })
    }

    /// The gateway's public origin.
    pub fn origin(&self) -> String {
        format!("https://localhost:{}", self.ports.public)
    }

    /// The folder of keys and certificates.
    pub fn certs(&self) -> PathBuf {
        self.folder.path().join("certs")
    }

    /// The institutions in the order of [`INSTITUTIONS`].
    pub fn institutions(&self) -> [(DemoInstitutionProfile, &SandboxInstitution); 3] {
        let [first, second, third] = INSTITUTIONS;
        [
            (first, &self.blue),
            (second, &self.red),
            (third, &self.green),
        ]
    }
}

/// A gateway running in this process.
pub struct DemoGateway {
    stop: Stop,
    serving: JoinHandle<DrainOutcome>,
}

impl DemoGateway {
    /// Stops it and waits until it has drained.
    ///
    /// # Errors
    /// The gateway panicked.
    pub async fn close(self) -> anyhow::Result<DrainOutcome> {
        self.stop.stop();
        Ok(self.serving.await?)
    }
}

async fn institution(
    certs: &Path,
    profile: DemoInstitutionProfile,
    port: u16,
) -> anyhow::Result<SandboxInstitution> {
    let settings = InstitutionSettings {
        id: profile.id.to_owned(),
        name: format!("{} · {}", profile.name, profile.name_en),
        listen: loopback(port),
        host: "localhost".to_owned(),
        identity: identity(certs, "server")?,
        key: pair(certs, &format!("{}-1", profile.id))?,
        callers: gateway_key_ring(certs, &format!("paymux-{}", profile.id))?,
        accounts: [TEA, BOOKS]
            .map(|role| enrolment::receiver(role, profile))
            .to_vec(),
        roots_pem: read(&certs.join("ca.pem"))?,
        can_close: true,
        remembers_close: profile.remembers_close,
        refunding: RefundCapabilities::default(),
        waits: InstitutionDelays {
            slow: Duration::from_secs(2),
            late: Duration::from_millis(300),
            ..InstitutionDelays::default()
        },
    };
    SandboxInstitution::start(settings)
        .await
        .with_context(|| format!("{}, port {port}", profile.name_en))
}

async fn shop(
    certs: &Path,
    role: DemoMerchantProfile,
    port: u16,
    ports: &Ports,
) -> anyhow::Result<DemoMerchant> {
    let platform = gateway_key_ring(certs, "platform-1")?;
    let settings = MerchantSettings {
        id: role.id.to_owned(),
        listen: loopback(port),
        host: "localhost".to_owned(),
        identity: identity(certs, "server")?,
        platform: platform.clone(),
        slow: Duration::from_secs(30),
    };
    let merchant = SandboxMerchant::start(settings)
        .await
        .with_context(|| format!("{}, port {port}", role.name))?;
    let client = MerchantClient::new(ClientSettings {
        gateway_origin: format!("https://localhost:{}", ports.public),
        roots_pem: read(&certs.join("ca.pem"))?,
        identity: Some(identity(certs, role.id)?),
        key: pair(certs, &format!("{}-1", role.id))?,
        gateway_keys: platform,
    })?;
    Ok(DemoMerchant {
        role,
        merchant,
        client,
    })
}

/// A certificate and its key, at the paths that `paymux keys dev` uses.
pub fn identity(certs: &Path, name: &str) -> io::Result<PemIdentity> {
    Ok(PemIdentity {
        certificates_pem: fs::read_to_string(certs.join(format!("{name}.pem")))?,
        key_pem: fs::read_to_string(certs.join(format!("{name}.key")))?,
    })
}
