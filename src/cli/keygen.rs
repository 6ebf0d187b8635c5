//! `marbre keygen`

use std::path::PathBuf;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::context::Context;
use super::output;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::keys::{Signer, keygen};

/// Arguments of `keygen`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Args {
    /// Publisher: make the restore key, the signing key and `allowed_signers` in this folder
    #[arg(group = "what", value_name = "DIR")]
    folder: Option<PathBuf>,

    /// Provider: make the agent's signing key in this file
    #[arg(long, group = "what", value_name = "FILE")]
    agent: Option<PathBuf>,

    /// Protect the restore key with a passphrase
    #[arg(long, requires = "folder")]
    passphrase: bool,

    /// Trust the agent with this public key file from the start; may be given several times
    #[arg(long, requires = "folder", value_name = "PUB")]
    signer: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    match (&args.agent, &args.folder) {
        (Some(path), _) => {
            let signer = keygen::agent(path, "marbre agent")?;
            let line = keygen::agent_line(&signer, "marbre agent")?;
            if context.json {
                return output::json(&json!({
                    "signing_key": path, "signer": signer.fingerprint(), "allowed_signers": line.trim_end(),
                }));
            }
            output::print(&format!("agent's signing key: {}", path.display()));
            output::print(&format!("fingerprint: {}", signer.fingerprint()));
            output::print(
                "Give each publisher this line for their allowed_signers, and the fingerprint on the phone:",
            );
            output::print(line.trim_end());
            Ok(())
        }
        (None, Some(folder)) => publisher(args, folder, context),
        (None, None) => Err(Error::new(ErrorKind::Usage, "keygen needs a folder, or --agent FILE")),
    }
}

fn publisher(args: &Args, folder: &std::path::Path, context: &Context) -> Result<()> {
    let passphrase = if args.passphrase { Some(new_passphrase()?) } else { None };
    let agents = args
        .signer
        .iter()
        .map(|path| Ok((Signer::load(path)?, "marbre agent".to_owned())))
        .collect::<Result<Vec<_>>>()?;
    let options = keygen::PublisherOptions { passphrase, agents };
    let keys = keygen::publisher(folder, &options, Timestamp::now())?;
    if context.json {
        return output::json(&json!({
            "restore_key": keys.restore_key,
            "recipient": keys.recipient,
            "publisher_signer": keys.signer.fingerprint(),
            "warnings": keys.warnings,
        }));
    }
    output::print(&format!("restore key: {}", keys.restore_key.display()));
    output::print(
        "  Keep it where the provider cannot reach it, and a copy in another place. Without it nothing can be restored.",
    );
    output::print(&format!("recipient, for the provider: {}", keys.recipient));
    output::print(&format!("publisher's signing key: {}", keys.signer.fingerprint()));
    for warning in &keys.warnings {
        output::print(&format!("warning: {warning}"));
    }
    Ok(())
}

fn new_passphrase() -> Result<SecretString> {
    let ask = |prompt| {
        rpassword::prompt_password(prompt)
            .map(SecretString::from)
            .or_kind(ErrorKind::Key, "ask for a passphrase (a terminal is needed)")
    };
    let first = ask("New passphrase of the restore key: ")?;
    let second = ask("Once more: ")?;
    if first.expose_secret().is_empty() || first.expose_secret() != second.expose_secret() {
        return Err(Error::key("the passphrases are empty or differ").remedy("Run the command again."));
    }
    Ok(first)
}
