//! Encrypted connections with libpq's meanings of `sslmode`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::system::certificate::Unverified;

/// What `sslmode` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Never encrypt.
    Disable,
    /// Encrypt where the server can, verify nothing: libpq's default.
    Prefer,
    /// Encrypt; verify the chain if there is a root certificate.
    Require,
    /// Encrypt and verify the chain.
    VerifyCa,
    /// Encrypt, verify the chain and the host's name.
    VerifyFull,
}

impl Mode {
    /// From the connection's `sslmode`.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "disable" => Self::Disable,
            // `allow` would try without encryption first: nobody wants that today.
            "prefer" | "allow" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            other => {
                return Err(Error::new(ErrorKind::Config, format!("sslmode {other:?} is not known"))
                    .remedy("Use one of disable, prefer, require, verify-ca, verify-full."));
            }
        })
    }

    /// As the environment of a client tool takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// The connector for this mode; `None` where nothing is to be encrypted.
pub fn connector(mode: Mode, root: Option<&PathBuf>) -> Result<Option<MakeRustlsConnect>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match (mode, root) {
        (Mode::Disable, _) => return Ok(None),
        (Mode::Prefer, _) | (Mode::Require, None) => Arc::new(Unverified(provider.clone())),
        (Mode::VerifyFull, None) => {
            // Certificates of the system that cannot be read are as good as not there.
            let (made, _unreadable) = MakeRustlsConnect::with_native_certs().map_err(|errors| {
                Error::new(ErrorKind::Config, "the system has no root certificates")
                    .cause(errors.first().map(ToString::to_string).unwrap_or_default())
                    .remedy("Install ca-certificates, or add sslrootcert=FILE.")
            })?;
            return Ok(Some(made));
        }
        (Mode::VerifyCa, None) => {
            return Err(Error::new(ErrorKind::Config, "sslmode verify-ca has no root certificate")
                .remedy("Add sslrootcert=FILE, or use sslmode=verify-full."));
        }
        (Mode::Require | Mode::VerifyCa, Some(path)) => Arc::new(AnyName(chain_verifier(path, &provider)?)),
        (Mode::VerifyFull, Some(path)) => chain_verifier(path, &provider)?,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .or_internal("set up TLS")?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(config)))
}

fn chain_verifier(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    let reading = || format!("read sslrootcert {}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).or_kind(ErrorKind::Config, reading())? {
        let certificate = certificate.or_kind(ErrorKind::Config, reading())?;
        roots.add(certificate).or_kind(ErrorKind::Config, reading())?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .or_kind(ErrorKind::Config, reading())
}

/// libpq's `verify-ca`: a certificate of that authority, whatever name it has.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The chain is verified before the name, so a wrong name means a right chain.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_need_what_they_verify_with() {
        assert!(Mode::parse("verify_full").is_err());
        assert!(connector(Mode::Disable, None).unwrap().is_none());
        assert!(connector(Mode::Prefer, None).unwrap().is_some());
        assert!(connector(Mode::Require, None).unwrap().is_some());
        assert!(connector(Mode::VerifyCa, None).is_err());
        let missing = PathBuf::from("/nonexistent/root.crt");
        let error = connector(Mode::VerifyFull, Some(&missing)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}
