//! Where snapshots are looked for: the targets of the configuration, or those named by `--from`.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cli::compose::{keys, targets};
use crate::cli::confirm;
use crate::cli::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::allowed_signers::AGENT;
use crate::keys::{AllowedSigners, TrustStore, keygen};
use crate::model::id::DatabaseId;
use crate::repository::catalog;
use crate::repository::reader::Reader;
use crate::state::State;
use crate::targets::NamedTarget;

/// Arguments of every verb that reads snapshots.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SourceArgs {
    /// Read from this target instead of those in the configuration; NAME=URL says how the provider calls it. May be
    /// given several times
    #[arg(long, value_name = "URL")]
    pub from: Vec<String>,

    /// With --from: the database, where the target holds several
    #[arg(long, value_name = "PUBLISHER/DATABASE")]
    pub database: Option<String>,

    /// Whose receipts to trust [default: `allowed_signers` beside the key, or here]
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: Option<PathBuf>,

    /// Trust receipts of this signing key
    #[arg(long, value_name = "SHA256:…", conflicts_with = "allowed_signers")]
    pub accept_signer: Option<String>,
}

/// One database, where its snapshots are, and whom to trust.
pub(crate) struct Source {
    /// The database.
    pub database: DatabaseId,
    /// Its targets.
    pub targets: Vec<NamedTarget>,
    /// Whose receipts count.
    pub trust: TrustStore,
    /// What the agent remembers; a publisher has no state.
    pub state: Option<State>,
}

impl Source {
    /// Resolves the arguments. `wanted` is a database given by position; `key` is the restore key, next to
    /// which there may be an `allowed_signers`.
    pub(crate) async fn all(
        args: &SourceArgs,
        wanted: Option<&str>,
        key: Option<&Path>,
        context: &Context,
        cancel: &CancellationToken,
    ) -> Result<Vec<Self>> {
        Self::all_within(None, args, wanted, key, context, cancel).await
    }

    /// Like [`Source::all`]; with `patience`, for a glance: targets that are silent for longer count as down.
    pub(crate) async fn all_within(
        patience: Option<Duration>,
        args: &SourceArgs,
        wanted: Option<&str>,
        key: Option<&Path>,
        context: &Context,
        cancel: &CancellationToken,
    ) -> Result<Vec<Self>> {
        let wanted = wanted.or(args.database.as_deref());
        if args.from.is_empty() {
            return configured(patience, args, wanted, context).await;
        }
        let targets = targets::named_targets(&args.from, patience).await?;
        let databases = match wanted {
            Some(name) => vec![name.parse::<DatabaseId>().map_err(|e| {
                Error::new(ErrorKind::Usage, "--from needs the whole name of the database")
                    .cause(e)
                    .remedy("Write it as publisher/database.")
            })?],
            None => catalog::databases(&targets, cancel).await?,
        };
        let trusted = match given(args)? {
            Some(trust) => Some(trust),
            None => found(key, context)?.map(TrustStore::AllowedSigners),
        };
        let mut sources = Vec::new();
        for database in databases {
            let trust = match &trusted {
                Some(trust) => trust.clone(),
                None => asked(&targets, &database, cancel).await?,
            };
            sources.push(Self { database, targets: targets.clone(), trust, state: None });
        }
        Ok(sources)
    }

    /// Like [`Source::all`], where only one database can be meant.
    pub(crate) async fn one(
        args: &SourceArgs,
        key: Option<&Path>,
        context: &Context,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let mut sources = Self::all(args, None, key, context, cancel).await?;
        match sources.len() {
            1 => Ok(sources.remove(0)),
            _ => {
                let names: Vec<String> = sources.iter().map(|s| s.database.to_string()).collect();
                Err(Error::new(ErrorKind::Usage, "there is more than one database here")
                    .cause(names.join(", "))
                    .remedy("Choose one with --database publisher/database."))
            }
        }
    }

    /// Reads its receipts.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader::new(&self.database, &self.targets, &self.trust, self.state.as_ref())
    }
}

async fn configured(
    patience: Option<Duration>,
    args: &SourceArgs,
    wanted: Option<&str>,
    context: &Context,
) -> Result<Vec<Source>> {
    let config = context.config()?;
    let databases = config.databases_named(wanted)?;
    let given = given(args)?;
    let state = State::open(&config.state_dir)?;
    if let Some(warning) = state.unwritable() {
        context.observer().warn(&warning);
    }
    let opened = match patience {
        Some(patience) => {
            let names = databases.iter().flat_map(|database| &database.targets).collect();
            targets::for_a_glance(&config, names, patience).await?
        }
        None => BTreeMap::new(),
    };
    let mut sources = Vec::new();
    for database in databases {
        let trust = match &given {
            Some(trust) => trust.clone(),
            None => keys::own_trust(&config, &database.id.publisher)?,
        };
        sources.push(Source {
            database: database.id.clone(),
            targets: match patience {
                Some(_) => database.targets.iter().filter_map(|name| opened.get(name).cloned()).collect(),
                None => targets::targets(&config, database).await?,
            },
            trust,
            state: Some(state.clone()),
        });
    }
    Ok(sources)
}

/// What the arguments say about trust.
fn given(args: &SourceArgs) -> Result<Option<TrustStore>> {
    if let Some(fingerprint) = &args.accept_signer {
        return TrustStore::fingerprint(fingerprint).map(Some);
    }
    let file = args.allowed_signers.as_deref();
    Ok(file.map(AllowedSigners::load).transpose()?.map(TrustStore::AllowedSigners))
}

/// Where nothing says whom to trust: asks a person at a terminal, or says how to tell.
async fn asked(
    targets: &[NamedTarget],
    database: &DatabaseId,
    cancel: &CancellationToken,
) -> Result<TrustStore> {
    let Some(signer) = catalog::any_signer(targets, database, cancel).await? else {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no snapshot of {database} here"))
            .remedy(
                "Check the target's URL and prefix, and the name of the database (`publisher/database`).",
            ));
    };
    let fingerprint = signer.fingerprint();
    if confirmed(database, &fingerprint) {
        return Ok(TrustStore::Fingerprint(fingerprint));
    }
    Err(Error::key(format!("the snapshots of {database} are signed by {fingerprint}, and nothing says that this key is trusted"))
        .remedy(format!(
            "Compare the fingerprint with the one that the provider gave you by another way (a call, the contract). \
             If it is the same, add `--accept-signer {fingerprint}`, or the agent's line to an allowed_signers file beside the key or here."
        )))
}

/// The `allowed_signers` beside the key, or in the working folder, which is named: nobody chose it.
fn found(key: Option<&Path>, context: &Context) -> Result<Option<AllowedSigners>> {
    let load =
        |file: &Path| AllowedSigners::load(file).map(|allowed| Some(allowed).filter(|a| a.lists(AGENT)));
    let beside = key.and_then(Path::parent).map(|folder| folder.join(keygen::ALLOWED_SIGNERS));
    if let Some(file) = beside.filter(|file| file.exists())
        && let Some(allowed) = load(&file)?
    {
        return Ok(Some(allowed));
    }
    let here = Path::new(keygen::ALLOWED_SIGNERS);
    let Ok(metadata) = here.metadata() else { return Ok(None) };
    let say =
        |what: &str| context.observer().warn(&format!("allowed_signers in the working folder is {what}"));
    let me = rustix::process::geteuid().as_raw();
    if ![0, me].contains(&metadata.uid()) || metadata.mode() & 0o022 != 0 {
        say("not used: others can change it. Name it with --allowed-signers if it is yours");
        return Ok(None);
    }
    let allowed = load(here)?;
    if allowed.is_some() {
        say("used: it says whose snapshots are trusted");
    }
    Ok(allowed)
}

/// Asks a person at a terminal.
fn confirmed(database: &DatabaseId, fingerprint: &str) -> bool {
    confirm::by_a_person(&format!(
        "The snapshots of {database} are signed by\n  {fingerprint}\nCompare it with what the provider gave you by \
         another way (a call, the contract).\nTrust this signer? [yes/no] "
    ))
}
