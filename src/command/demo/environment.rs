//! Everybody on one machine: pretend institutions, two pretend merchants, a payer, and a gateway
//! with fresh keys and a fresh database in a folder of its own. Over real TLS, on loopback only; the
//! folder is removed at the end.

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
    MerchantClient, MerchantSettings, PemIdentity, PretendPayer, RefundCapabilities,
    SandboxInstitution, SandboxMerchant, SandboxNotification, SandboxPayment,
};
use crate::world::{Clock, Entropy, SystemClock, SystemEntropy};

/// How long anything is waited for that should be there at once; only a failing step waits so long.
pub const WAIT_MAX: Duration = Duration::from_secs(20);

/// A folder for one run, for its owner only; removed when it is dropped.
pub struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Makes it, under a name that nobody can guess.
    ///
    /// # Errors
    /// The system's folder for temporary files cannot be written.
    pub fn make() -> anyhow::Result<Self> {
        let entropy: &dyn Entropy = &SystemEntropy;
        let name = format!("paymux-demo-{}", hex(&entropy.draw::<6>()));
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // Nobody is left to be told; the system clears this place as well.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A merchant: its server, which is told, and its client, which asks.
pub struct DemoMerchant {
    /// As it is enrolled.
    pub role: DemoMerchantProfile,
    /// Hears notifications.
    pub merchant: SandboxMerchant,
    /// Places orders.
    pub client: MerchantClient,
}

impl DemoMerchant {
    /// The fields of an order; the merchant's number is the goods' number as well, by which an
    /// institution's book can be searched.
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

    /// Places it.
    ///
    /// # Errors
    /// No whole answer came.
    pub async fn place(&self, order: &Value) -> anyhow::Result<ClientResponse> {
        Ok(self.client.post("/v1/orders", order).await?)
    }

    /// Names an order by the merchant's own number, with further fields.
    ///
    /// # Errors
    /// No whole answer came.
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

    /// The event of this type about this order, as soon as it was heard.
    ///
    /// # Errors
    /// It was not, in all the time it had.
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

/// The payment of this merchant's number in an institution's book.
pub fn payment_of<'a>(book: &'a InstitutionLedger, number: &str) -> Option<&'a SandboxPayment> {
    book.payments()
        .find(|payment| payment.terms.goods_no.as_deref() == Some(number))
}

/// Everybody but the gateway, and what the gateway needs to start.
pub struct DemoEnvironment {
    /// Has a page and an SDK.
    pub blue: SandboxInstitution,
    /// Takes small sums.
    pub red: SandboxInstitution,
    /// Serves some payers.
    pub green: SandboxInstitution,
    /// The first merchant.
    pub tea: DemoMerchant,
    /// The second.
    pub books: DemoMerchant,
    /// Who pays.
    pub payer: PretendPayer,
    /// The gateway's configuration.
    pub config: PathBuf,
    /// Who listens where.
    pub ports: Ports,
    /// Files that `paymux keys dev` made.
    pub files_made: usize,
    folder: Arc<TemporaryFolder>,
}

impl DemoEnvironment {
    /// Sets it: writes `routes.toml`, makes keys and certificates, starts institutions and
    /// merchants. `more` is added to `routes.toml`.
    ///
    /// # Errors
    /// A port is taken, or a file cannot be written.
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
            payer: PretendPayer::new(&read(&certs.join("ca.pem"))?)?,
            config,
            ports,
            files_made,
            folder,
        })
    }

    /// The same on free ports.
    ///
    /// # Errors
    /// See [`DemoEnvironment`].
    pub async fn start_on_free_ports(more: &str) -> anyhow::Result<Self> {
        Self::set(Ports::free()?, more).await
    }

    /// Reads the configuration, starts the gateway in this process, and serves.
    ///
    /// # Errors
    /// The configuration has faults, a port is taken, or the data cannot be opened.
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

    /// The gateway as merchants and payers call it.
    pub fn origin(&self) -> String {
        format!("https://localhost:{}", self.ports.public)
    }

    /// Where keys and certificates are.
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

/// A gateway that serves in this process.
pub struct DemoGateway {
    stop: Stop,
    serving: JoinHandle<DrainOutcome>,
}

impl DemoGateway {
    /// Stops it and waits until everything is finished.
    ///
    /// # Errors
    /// The gateway broke.
    pub async fn close(self) -> anyhow::Result<DrainOutcome> {
        self.stop.stop();
        Ok(self.serving.await?)
    }
}

async fn institution(
    certs: &Path,
    cast: DemoInstitutionProfile,
    port: u16,
) -> anyhow::Result<SandboxInstitution> {
    let settings = InstitutionSettings {
        id: cast.id.to_owned(),
        name: format!("{} · {}", cast.name, cast.name_en),
        listen: loopback(port),
        host: "localhost".to_owned(),
        identity: identity(certs, "server")?,
        key: pair(certs, &format!("{}-1", cast.id))?,
        callers: gateway_key_ring(certs, &format!("paymux-{}", cast.id))?,
        accounts: [TEA, BOOKS]
            .map(|role| enrolment::receiver(role, cast))
            .to_vec(),
        roots_pem: read(&certs.join("ca.pem"))?,
        can_close: true,
        remembers_close: cast.remembers_close,
        refunding: RefundCapabilities::default(),
        waits: InstitutionDelays {
            slow: Duration::from_secs(2),
            late: Duration::from_millis(300),
            ..InstitutionDelays::default()
        },
    };
    SandboxInstitution::start(settings)
        .await
        .with_context(|| format!("{}, port {port}", cast.name_en))
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

/// A certificate and its key, as `paymux keys dev` names them.
pub fn identity(certs: &Path, name: &str) -> io::Result<PemIdentity> {
    Ok(PemIdentity {
        certificates_pem: fs::read_to_string(certs.join(format!("{name}.pem")))?,
        key_pem: fs::read_to_string(certs.join(format!("{name}.key")))?,
    })
}
