//! TLS as a client: which certificates are trusted, and how far they are verified.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::error::{Error, ErrorKind, Result, ResultExt};

/// What to do where an untrusted certificate comes up.
pub(crate) const UNTRUSTED: &str = "Name the certificate of the authority that signed it with `ca_file`, or have the \
                                    service get one that this host trusts.";

/// How far the certificate of a server is verified.
pub(crate) enum Verification {
    /// It is for the name of the server, and one of these authorities signed it.
    ChainAndName(RootCertStore),
    /// One of these authorities signed it, at least one of which there must be; it may be for any name.
    Chain(RootCertStore),
    /// Any certificate will do: that keeps listeners out, not impostors.
    Nothing,
}

/// TLS as a client, for this verification.
pub(crate) fn config(verification: Verification) -> Result<ClientConfig> {
    Ok(verifying(verification)?.with_no_client_auth())
}

/// The same, with a certificate that proves who we are, and its key, which has no password; both in PEM.
pub(crate) fn config_with_client(
    verification: Verification,
    certificate: &Path,
    key: &Path,
) -> Result<ClientConfig> {
    let chain = certificates(certificate)?;
    let reading = || format!("read the key of a certificate in {}", key.display());
    let mode = std::fs::metadata(key).or_kind(ErrorKind::Config, reading())?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Error::new(ErrorKind::Config, format!("key {} can be read by others", key.display()))
            .remedy(format!("Run: chmod 600 {}", key.display())));
    }
    let read = PrivateKeyDer::from_pem_file(key).or_kind(ErrorKind::Config, reading())?;
    let config = verifying(verification)?.with_client_auth_cert(chain, read);
    config.or_kind(ErrorKind::Config, format!("use the certificate in {}", certificate.display()))
}

fn verifying(verification: Verification) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    const SET_UP: &str = "set up TLS";
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .or_internal(SET_UP)?;
    let chain = match verification {
        Verification::ChainAndName(roots) => {
            return Ok(builder.with_root_certificates(roots));
        }
        Verification::Chain(roots) => {
            let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
            Some(chain.or_internal(SET_UP)?)
        }
        Verification::Nothing => None,
    };
    let verifier = Arc::new(AnyName { chain, algorithms });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

/// TLS that trusts the authorities in this file and no others, or those of the system.
pub(crate) fn client(ca_file: Option<&Path>) -> Result<ClientConfig> {
    let roots = match ca_file {
        Some(path) => authorities(certificates(path)?)
            .or_kind(ErrorKind::Config, format!("use the certificates in {}", path.display()))?,
        // Without any, a connection says which one it lacks.
        None => system_authorities().0,
    };
    config(Verification::ChainAndName(roots))
}

/// The certificates of a file in PEM, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let reading = || format!("read the certificates in {}", path.display());
    let found = read(path).or_kind(ErrorKind::Config, reading())?;
    if found.is_empty() {
        return Err(Error::new(ErrorKind::Config, format!("failed to {}", reading()))
            .cause("there is none")
            .remedy("Name a file with certificates in PEM."));
    }
    Ok(found)
}

/// The certificates of a file in PEM.
pub(crate) fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_file_iter(path)?.collect()
}

/// Trusts whatever these authorities signed.
pub(crate) fn authorities(certificates: Vec<CertificateDer<'_>>) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    certificates.into_iter().try_for_each(|certificate| roots.add(certificate))?;
    Ok(roots)
}

/// Trusts what the system trusts. Certificates that cannot be read are as good as not there; the errors say why.
pub(crate) fn system_authorities() -> (RootCertStore, Vec<rustls_native_certs::Error>) {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    (roots, found.errors)
}

/// Takes a certificate for any name: one with this chain, or any at all.
#[derive(Debug)]
struct AnyName {
    chain: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        // The chain is verified before the name, so a wrong name means a right chain.
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
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
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether a connection failed because the certificate of the other side is not trusted.
pub(crate) fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    let invalid = |e: &rustls::Error| matches!(e, rustls::Error::InvalidCertificate(_));
    let mut next = Some(error);
    while let Some(e) = next {
        if e.downcast_ref::<rustls::Error>().is_some_and(invalid) {
            return true;
        }
        // An input/output error holds the one of TLS inside, and is not its source.
        let inside = e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(inside) = inside
            && is_untrusted(inside)
        {
            return true;
        }
        next = e.source();
    }
    false
}
