//! Who speaks to the server: a client, and the credentials that it signs with. Those may end in the middle of a job that
//! takes hours, when whoever renews them has put new ones in their place.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_credential_types::credential_fn::provide_credentials_fn;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, ProvideCredentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
    retry::RetryConfig, timeout::TimeoutConfig,
};

use crate::targets::s3::S3Timeouts;
use crate::targets::s3::credentials::{credentials, region};
use crate::targets::s3::error::{Doubt, Failure, no_credentials};
use crate::targets::{S3Location, TargetError, TargetErrorKind};

/// The sessions of a target, one after the other.
#[derive(Debug)]
pub(super) struct Sessions {
    location: S3Location,
    timeouts: S3Timeouts,
    http: SharedHttpClient,
    region: Region,
    current: Mutex<Arc<Session>>,
    /// Of many requests that fail at the same moment, one looks for new credentials.
    renewing: tokio::sync::Mutex<()>,
}

/// A client, with credentials from one reading of their source.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    source: SharedCredentialsProvider,
    /// What the client signs with, since it first did.
    used: Arc<Mutex<Option<Credentials>>>,
    /// Its credentials were read because those before were not taken any more.
    is_renewed: bool,
    /// The server has taken its credentials.
    works: AtomicBool,
}

impl Sessions {
    /// The first session. Does not speak to the server.
    pub(super) async fn begin(
        location: &S3Location,
        timeouts: S3Timeouts,
        http: SharedHttpClient,
        operation: &str,
    ) -> Result<Self, TargetError> {
        let region = region(location, &http).await;
        let source = credentials(location, &http, &region, operation).await?;
        let first = Session::new(source, location, timeouts, &http, &region, false);
        Ok(Self {
            location: location.clone(),
            timeouts,
            http,
            region,
            current: Mutex::new(Arc::new(first)),
            renewing: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn current(&self) -> Arc<Session> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is to be said of a failure of a request of `session`. Where the server does not take its credentials, and their
    /// source has others by now, the request may be repeated: the next session signs with those. It stays as it is where the
    /// source has none but those that failed.
    pub(super) async fn judge(&self, session: &Arc<Session>, failure: Failure) -> Failure {
        let Some(doubt) = failure.doubt() else { return failure };
        let _one = self.renewing.lock().await;
        let renewed = !Arc::ptr_eq(session, &self.current()) || self.renew(session, doubt).await;
        match renewed {
            false => failure,
            true => Failure {
                kind: TargetErrorKind::Unavailable,
                cause: format!("{}; there are new credentials, which come next", failure.cause),
                ..failure
            },
        }
    }

    /// Begins a new session, if there are other credentials than those of this one.
    async fn renew(&self, session: &Session, doubt: Doubt) -> bool {
        // A role gives others each time it is asked. If those just given were not taken either, more of them will not help.
        if session.is_renewed && !session.works.load(Ordering::Relaxed) {
            return false;
        }
        let operation = "read the credentials again";
        let Ok(source) = credentials(&self.location, &self.http, &self.region, operation).await else {
            return false;
        };
        let Ok(fresh) = source.provide_credentials().await else { return false };
        // What ends by itself, the client renews by itself; then this is no more than a right that is missing.
        if doubt == Doubt::Possible && fresh.expiry().is_some() {
            return false;
        }
        let used = session.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if used.is_some_and(|used| is_same(&used, &fresh)) {
            return false;
        }
        tracing::info!(target = %self.location, "the credentials have changed, and are used from now on");
        let next = Session::new(source, &self.location, self.timeouts, &self.http, &self.region, true);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        true
    }
}

fn is_same(a: &Credentials, b: &Credentials) -> bool {
    let parts = |c: &Credentials| {
        let token = c.session_token().map(str::to_owned);
        (c.access_key_id().to_owned(), c.secret_access_key().to_owned(), token)
    };
    parts(a) == parts(b)
}

impl Session {
    fn new(
        source: SharedCredentialsProvider,
        location: &S3Location,
        timeouts: S3Timeouts,
        http: &SharedHttpClient,
        region: &Region,
        is_renewed: bool,
    ) -> Self {
        let used = Arc::new(Mutex::new(None));
        let (noted, asked) = (used.clone(), source.clone());
        let remembering = provide_credentials_fn(move || {
            let (noted, asked) = (noted.clone(), asked.clone());
            async move {
                let given = asked.provide_credentials().await?;
                *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(given.clone());
                Ok(given)
            }
        });
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http.clone())
            .region(region.clone())
            .credentials_provider(remembering)
            .force_path_style(location.path_style)
            // The retry wrapper and the watch in `S3Target::call` do these, for every target in the same way.
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(timeouts.connect).build())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        // Without the slash the SDK would put the bucket's name right behind the last name of a path.
        config.set_endpoint_url(location.endpoint.as_ref().map(|url| format!("{url}/")));
        let client = Client::from_conf(config.build());
        Self { client, source, used, is_renewed, works: AtomicBool::new(false) }
    }

    /// The server has answered, and took the credentials.
    pub(super) fn has_worked(&self) {
        self.works.store(true, Ordering::Relaxed);
    }

    /// A request that was never sent may have lacked credentials: that has a remedy of its own.
    pub(super) async fn explain(&self, failure: Failure) -> Failure {
        if failure.status.is_some() {
            return failure;
        }
        match self.source.provide_credentials().await {
            Ok(_) => failure,
            Err(e) => no_credentials(&e).with_source(e),
        }
    }
}
