//! Which certificates are trusted.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, ErrorKind, Result, ResultExt};

/// Where an untrusted certificate comes up.
pub(crate) const UNTRUSTED: &str = "Name the certificate of the authority that signed it with `ca_file`, or have the \
                                    service get one that this host trusts.";

/// The certificates of a file in PEM, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let reading = || format!("read the certificates in {}", path.display());
    let found = CertificateDer::pem_file_iter(path).or_kind(ErrorKind::Config, reading())?;
    let found: Vec<_> = found.collect::<Result<_, _>>().or_kind(ErrorKind::Config, reading())?;
    if found.is_empty() {
        return Err(Error::new(ErrorKind::Config, format!("failed to {}", reading()))
            .cause("there is none")
            .remedy("Name a file with certificates in PEM."));
    }
    Ok(found)
}

/// TLS that trusts the authorities in this file and no others, or those of the system.
pub(crate) fn client(ca_file: Option<&Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .or_kind(ErrorKind::Config, format!("use the certificates in {}", path.display()))?;
            }
        }
        None => {
            // Those of the system that cannot be read are as good as not there: a connection says which one it lacks.
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .or_internal("set up TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth())
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
