//! Where an S3 target's credentials and region come from.

use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::config::{BehaviorVersion, Region, SharedCredentialsProvider, SharedHttpClient};

use crate::targets::{S3Location, TargetError, TargetErrorKind};

/// The region: the URL's; or AWS's usual chain, where the server is AWS; or `us-east-1`, which other servers expect.
pub(super) async fn region(location: &S3Location, http: &SharedHttpClient) -> Region {
    if let Some(region) = &location.region {
        return Region::new(region.clone());
    }
    let default = Region::from_static("us-east-1");
    if location.endpoint.is_some() {
        return default;
    }
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
    if let Some(profile) = &location.profile {
        loader = loader.profile_name(profile);
    }
    loader.load().await.region().cloned().unwrap_or(default)
}

/// The credentials file of the location, or AWS's usual chain; never anonymous.
pub(super) async fn credentials(
    location: &S3Location,
    http: &SharedHttpClient,
    region: &Region,
    operation: &str,
) -> Result<SharedCredentialsProvider, TargetError> {
    let denied = |cause: String| TargetError::new(TargetErrorKind::Denied, operation, cause);
    let Some(path) = &location.credentials_file else {
        let mut loader =
            aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone()).region(region.clone());
        if let Some(profile) = &location.profile {
            loader = loader.profile_name(profile);
        }
        return loader
            .load()
            .await
            .credentials_provider()
            .ok_or_else(|| denied("no credentials are configured".to_owned()));
    };
    tokio::fs::File::open(path).await.map_err(|e| {
        denied(format!("credentials file {} cannot be read: {e}", path.display())).with_source(e)
    })?;
    let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, path).build();
    let config = aws_config::provider_config::ProviderConfig::default()
        .with_http_client(http.clone())
        .with_region(Some(region.clone()));
    let provider = aws_config::profile::ProfileFileCredentialsProvider::builder()
        .configure(&config)
        .profile_files(files)
        .profile_name(location.profile.as_deref().unwrap_or("default"))
        .build();
    Ok(SharedCredentialsProvider::new(provider))
}
