//! The HTTP client of a target: TLS, and the proxy of the environment where there is one.

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};

use crate::targets::s3::proxy::Proxy;
use crate::targets::{S3Location, TargetError, TargetErrorKind};

const TLS: Provider = Provider::Rustls(CryptoMode::Ring);

/// The client for this target, and for whoever hands out its credentials.
pub(super) fn client(location: &S3Location, operation: &str) -> Result<SharedHttpClient, TargetError> {
    let Some(proxy) = Proxy::from_environment(location) else {
        return Ok(Builder::new().tls_provider(TLS).build_https());
    };
    let proxy = config(&proxy).ok_or_else(|| {
        // The value is not repeated: it may hold a password. A job goes on with its other targets.
        let cause = format!(
            "the variable {} names no proxy: write it as http://host:port, or add the endpoint's host to NO_PROXY",
            proxy.variable
        );
        TargetError::new(TargetErrorKind::Unavailable, operation, cause)
    })?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().tls_provider(TLS).proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build()
    }))
}

fn config(proxy: &Proxy) -> Option<ProxyConfig> {
    let config = match proxy.encrypted {
        true => ProxyConfig::https(proxy.url.as_str()),
        false => ProxyConfig::http(proxy.url.as_str()),
    };
    Some(config.ok()?.no_proxy(&proxy.not_for))
}
