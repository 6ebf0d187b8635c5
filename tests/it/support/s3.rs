//! Real S3 servers on loopback: SeaweedFS for everything, rclone as the one that ignores conditions.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use marbre::internal::S3Location;
use tokio::sync::Mutex;

use super::free_ports;

/// Profiles of [`SeaweedFs::location`]: may do everything; may put, get and list; may only put; and two mistakes.
pub const ADMIN: &str = "admin";
pub const LIMITED: &str = "limited";
pub const PUT_ONLY: &str = "put-only";
pub const UNKNOWN_KEY: &str = "unknown-key";
pub const WRONG_SECRET: &str = "wrong-secret";

const CREDENTIALS: &str = "\
[admin]
aws_access_key_id = adminkey
aws_secret_access_key = adminsecret
[limited]
aws_access_key_id = limitedkey
aws_secret_access_key = limitedsecret
[put-only]
aws_access_key_id = putonlykey
aws_secret_access_key = putonlysecret
[unknown-key]
aws_access_key_id = nobodykey
aws_secret_access_key = hunter2hunter2
[wrong-secret]
aws_access_key_id = limitedkey
aws_secret_access_key = hunter2hunter2
";

/// The action `Write` of SeaweedFS includes deleting; only a policy can leave that out.
const IDENTITIES: &str = r#"{
  "identities": [
    {"name": "admin", "credentials": [{"accessKey": "adminkey", "secretKey": "adminsecret"}],
     "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
    {"name": "limited", "credentials": [{"accessKey": "limitedkey", "secretKey": "limitedsecret"}],
     "actions": [], "policyNames": ["put-get-list"]},
    {"name": "put-only", "credentials": [{"accessKey": "putonlykey", "secretKey": "putonlysecret"}],
     "actions": [], "policyNames": ["put-only"]}
  ],
  "policies": [
    {"name": "put-get-list", "content": "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"s3:PutObject\",\"s3:PutObjectRetention\",\"s3:GetObject\",\"s3:GetObjectVersion\",\"s3:GetObjectRetention\"],\"Resource\":[\"arn:aws:s3:::*/*\"]},{\"Effect\":\"Allow\",\"Action\":[\"s3:ListBucket\",\"s3:ListBucketVersions\"],\"Resource\":[\"arn:aws:s3:::*\"]}]}"},
    {"name": "put-only", "content": "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"s3:PutObject\",\"s3:PutObjectRetention\"],\"Resource\":[\"arn:aws:s3:::*/*\"]}]}"}
  ]
}"#;

/// A process that is stopped, by its own id, when the test is over.
struct Server {
    child: Child,
}

impl Server {
    fn start(program: &str, args: &[String], log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {program}: {e}; run tests/run, which installs it"));
        Self { child }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A SeaweedFS of this test run.
pub struct SeaweedFs {
    /// Dropped first: the server must be gone before its data is. `None` while it is stopped.
    server: Option<Server>,
    args: Vec<String>,
    dir: tempfile::TempDir,
    port: u16,
    sockets: Vec<PathBuf>,
}

static SHARED: Mutex<Weak<SeaweedFs>> = Mutex::const_new(Weak::new());

impl SeaweedFs {
    /// The server that the tests running now share; it stops with the last of them.
    pub async fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&started);
        started
    }

    /// A server of one's own, with a limited user.
    pub async fn start() -> Self {
        // Somebody else may take a port between its choice and its use.
        for _ in 0..3 {
            if let Some(server) = Self::try_start().await {
                return server;
            }
        }
        panic!("SeaweedFS did not start three times");
    }

    async fn try_start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("s3.json"), IDENTITIES).unwrap();
        std::fs::write(path("credentials"), CREDENTIALS).unwrap();
        std::fs::create_dir(path("data")).unwrap();
        let ports: [u16; 10] = free_ports();
        let mut args: Vec<String> = ["mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
            .into_iter()
            .chain(["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false"])
            .chain(["-admin.ui=false", "-master.telemetry=false"])
            .chain(["-s3.autoCreateBucket=false"])
            .map(str::to_owned)
            .collect();
        args.push(format!("-dir={}", path("data")));
        args.push(format!("-s3.config={}", path("s3.json")));
        let mut sockets = Vec::new();
        for (i, part) in ["master", "volume", "filer", "s3", "admin"].iter().enumerate() {
            let (http, grpc) = (ports[2 * i], ports[2 * i + 1]);
            args.push(format!("-{part}.port={http}"));
            args.push(format!("-{part}.port.grpc={grpc}"));
            sockets.push(PathBuf::from(format!("/tmp/seaweedfs-{part}-{http}.sock")));
            sockets.push(PathBuf::from(format!("/tmp/seaweedfs-{part}-grpc-{grpc}.sock")));
        }
        let mut server = Self { server: None, args, dir, port: ports[6], sockets };
        server.run().await.then_some(server)
    }

    /// Starts the process, and waits until it answers.
    async fn run(&mut self) -> bool {
        let log = self.dir.path().join("weed.log");
        let server = self.server.insert(Server::start("weed", &self.args, &log));
        let deadline = Instant::now() + Duration::from_secs(40);
        let client = client(&format!("http://127.0.0.1:{}", self.port), "adminkey", "adminsecret");
        while client.list_buckets().send().await.is_err() {
            let gone = !matches!(server.child.try_wait(), Ok(None));
            if gone || Instant::now() > deadline {
                eprintln!("{}", std::fs::read_to_string(&log).unwrap_or_default());
                return false;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        true
    }

    /// Stops it: nobody answers at its address.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts it again at the same address, with what it held.
    pub async fn resume(&mut self) {
        assert!(self.run().await, "SeaweedFS did not start again");
    }

    /// Where the S3 protocol is spoken.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Host and port, for a proxy before it.
    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// A place in a bucket as one of the profiles sees it.
    pub fn location(&self, bucket: &str, prefix: &str, profile: &str) -> S3Location {
        S3Location {
            endpoint: Some(self.endpoint()),
            path_style: true,
            profile: Some(profile.to_owned()),
            credentials_file: Some(self.dir.path().join("credentials")),
            ..S3Location::new(bucket, Some(prefix.parse().unwrap())).unwrap()
        }
    }

    /// A client that may do everything, also what marbre never does.
    pub fn admin(&self) -> Client {
        self.client("adminkey", "adminsecret")
    }

    /// A client of the user that may put, get and list.
    pub fn limited(&self) -> Client {
        self.client("limitedkey", "limitedsecret")
    }

    fn client(&self, key: &str, secret: &str) -> Client {
        client(&self.endpoint(), key, secret)
    }

    /// A place in a bucket as the configuration and the command line name it.
    pub fn url(&self, bucket: &str, profile: &str) -> String {
        let file = self.location(bucket, "marbre", profile).credentials_file.unwrap();
        format!(
            "s3://{bucket}/marbre?endpoint={}&region=us-east-1&profile={profile}&credentials_file={}",
            self.endpoint(),
            file.display()
        )
    }

    /// Makes a new bucket with versions and Object Lock, and returns its name.
    pub async fn locking_bucket(&self) -> String {
        let name = format!("test-{:016x}", rand::random::<u64>());
        let request = self.admin().create_bucket().bucket(&name).object_lock_enabled_for_bucket(true);
        request.send().await.unwrap();
        name
    }

    /// Makes a new bucket, and returns its name.
    pub async fn bucket(&self, versioned: bool) -> String {
        let name = format!("test-{:016x}", rand::random::<u64>());
        let admin = self.admin();
        admin.create_bucket().bucket(&name).send().await.unwrap();
        if versioned {
            let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
            admin
                .put_bucket_versioning()
                .bucket(&name)
                .versioning_configuration(enabled)
                .send()
                .await
                .unwrap();
        }
        name
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// `rclone serve s3`: answers 200 to every put, whatever is there.
pub struct Rclone {
    _server: Server,
    dir: tempfile::TempDir,
    port: u16,
}

impl Rclone {
    /// Serves an empty bucket `bucket`.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("data/bucket")).unwrap();
        std::fs::write(dir.path().join("credentials"), CREDENTIALS).unwrap();
        let [port] = free_ports();
        let args = [
            "serve".to_owned(),
            "s3".to_owned(),
            format!("--addr=127.0.0.1:{port}"),
            "--auth-key=adminkey,adminsecret".to_owned(),
            format!("--config={}", dir.path().join("rclone.conf").display()),
            dir.path().join("data").display().to_string(),
        ];
        let log = dir.path().join("rclone.log");
        let server = Server::start("rclone", &args, &log);
        let admin = client(&format!("http://127.0.0.1:{port}"), "adminkey", "adminsecret");
        let deadline = Instant::now() + Duration::from_secs(30);
        while admin.list_buckets().send().await.is_err() {
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(Instant::now() < deadline, "rclone did not start: {}", said());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Self { _server: server, dir, port }
    }

    /// The bucket as the configuration names it.
    pub fn url(&self) -> String {
        format!(
            "s3://bucket/prefix?endpoint=http://127.0.0.1:{}&region=us-east-1&profile={ADMIN}&credentials_file={}",
            self.port,
            self.dir.path().join("credentials").display()
        )
    }

    /// The bucket.
    pub fn location(&self) -> S3Location {
        S3Location {
            endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
            path_style: true,
            profile: Some(ADMIN.to_owned()),
            credentials_file: Some(self.dir.path().join("credentials")),
            ..S3Location::new("bucket", Some("prefix".parse().unwrap())).unwrap()
        }
    }
}

fn client(endpoint: &str, key: &str, secret: &str) -> Client {
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new(key, secret, None, None, "test"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}
