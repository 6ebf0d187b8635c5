//! Accepting what is odd or damaged, and known: a signed record says who, why and what exactly, so that whatever comes next
//! is seen. Nothing is changed or deleted by it.

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::job::anomaly::{self, Anomaly};
use crate::job::decide;
use crate::job::recorded_at::{self, RecordedAt};
use crate::job::verify::versions;
use crate::keys::{SigningKey, TrustStore};
use crate::model::drill_check::Percent;
use crate::model::human::first_few;
use crate::model::id::{DatabaseId, DatabaseName, PublisherName, Sha256};
use crate::model::level::By;
use crate::model::mark::Because;
use crate::repository::catalog::Catalog;
use crate::repository::chain::Break;
use crate::repository::decision::{Chain, ChainProblem, Matter, Place, Problem};
use crate::repository::decision_catalog::DecisionSummary;
use crate::repository::drill_catalog::DrillCatalog;
use crate::repository::layout;
use crate::repository::reader::Reader;
use crate::repository::receipt::ObjectRef;
use crate::repository::remembered::Remembered as _;
use crate::repository::succession::Seen;
use crate::state::State;
use crate::targets::{NamedTarget, TargetErrorKind};

/// The name of what the newest snapshot holds.
pub(crate) const CONTENT: &str = "content";

/// Everything that accepting needs.
pub(crate) struct AcceptJob {
    /// The database.
    pub database: DatabaseId,
    /// Where its copies are.
    pub targets: Vec<NamedTarget>,
    /// Whose records count.
    pub trust: TrustStore,
    /// What the agent remembers.
    pub state: State,
    /// Signs the record.
    pub signing_key: SigningKey,
    /// How many rows may be gone before that is odd.
    pub rows_limit: Percent,
}

/// Something that can be accepted.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Acceptable {
    /// Its name.
    pub name: String,
    /// What is odd or wrong: a fragment.
    pub problem: String,
    #[serde(skip)]
    matter: Matter,
}

/// A decision that was written, as `accept --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AcceptReport {
    /// Whose data.
    pub publisher: PublisherName,
    /// Which database.
    pub database: DatabaseName,
    /// The decision.
    #[serde(flatten)]
    pub decision: DecisionSummary,
    /// Every target.
    pub targets: Vec<RecordedAt>,
}

impl AcceptReport {
    /// The error that the command ends with, where a target lacks the record.
    pub(crate) fn error(&self) -> Option<Error> {
        recorded_at::incomplete(&self.targets)
    }
}

/// What there is.
struct Look<'a> {
    reader: Reader<'a>,
    catalog: Catalog,
    drills: DrillCatalog,
    acceptable: Vec<Acceptable>,
}

impl AcceptJob {
    /// What is odd or wrong now, and not accepted yet.
    pub(crate) async fn acceptable(&self, cancel: &CancellationToken) -> Result<Vec<Acceptable>> {
        Ok(self.look(cancel).await?.acceptable)
    }

    /// Accepts what has these names; without any, what is odd about the content.
    pub(crate) async fn run(
        self,
        names: &[String],
        because: &Because,
        now: Timestamp,
        cancel: &CancellationToken,
    ) -> Result<AcceptReport> {
        let look = self.look(cancel).await?;
        look.catalog.require_agent(&self.database, &self.signing_key.signer())?;
        let mut about = Vec::new();
        for name in names {
            about.push(self.named(name, &look, cancel).await?);
        }
        if names.is_empty() {
            let content = look.acceptable.iter().find(|a| a.name == CONTENT);
            about.push(
                content.map(|a| a.matter.clone()).ok_or_else(|| nothing(&self.database, &look.acceptable))?,
            );
        }
        let signed = decide::sign(&self.database, &self.signing_key, because, about, now)?;
        let targets = decide::put_everywhere(&self.targets, &self.database, &signed, cancel).await?;
        self.state.remember_decision(&self.database, &signed)?;
        Ok(AcceptReport {
            publisher: self.database.publisher.clone(),
            database: self.database.database.clone(),
            decision: DecisionSummary::of(&signed.record),
            targets,
        })
    }

    async fn look(&self, cancel: &CancellationToken) -> Result<Look<'_>> {
        let seen = self.state.head(&self.database)?.map(|head| (head.sequence, head.hash));
        let reader = Reader::new(&self.database, &self.targets, &self.trust, Some(&self.state));
        let catalog = reader.read(cancel).await?;
        let drills = reader.drills(cancel).await?;
        let mut acceptable = Vec::new();
        let anomalies = anomaly::anomalies(&catalog, &drills, self.rows_limit);
        if let Some(newest) = catalog.newest().filter(|_| !anomalies.is_empty()) {
            let problem = anomalies.iter().map(Anomaly::what).collect::<Vec<_>>().join("; ");
            let matter = Matter::Content(Seen::of(&newest.link));
            acceptable.push(Acceptable { name: CONTENT.to_owned(), problem, matter });
        }
        acceptable.extend(broken(&catalog, &drills, seen));
        let bad = drills.bad.iter().filter(|b| !catalog.decisions.know_damage(&b.target, &b.key));
        for bad in catalog.bad.iter().chain(bad) {
            if let Some(object) = bad.key.strip_prefix(&format!("{}/", self.database)) {
                let place = Place { target: bad.target.clone(), object: object.to_owned() };
                let (name, problem) = (place.to_string(), bad.error.to_string());
                acceptable.push(Acceptable { name, problem, matter: Matter::Damage(place) });
            }
        }
        Ok(Look { reader, catalog, drills, acceptable })
    }

    /// What a name means. That of an object is looked at now: what is intact is not damaged.
    async fn named(&self, name: &str, look: &Look<'_>, cancel: &CancellationToken) -> Result<Matter> {
        if let Some(found) = look.acceptable.iter().find(|a| a.name == name) {
            return Ok(found.matter.clone());
        }
        if let (CONTENT, Some(newest)) = (name, look.catalog.newest()) {
            return Ok(Matter::Content(Seen::of(&newest.link)));
        }
        let place = name.split_once(':').and_then(|(target, object)| {
            let target = self.targets.iter().find(|t| t.name.as_str() == target)?;
            Some((target, object.strip_prefix(&format!("{}/", self.database)).unwrap_or(object)))
        });
        let Some((target, object)) = place else {
            return Err(unknown(name, &self.database, &look.acceptable));
        };
        let Some(expected) = self.expected(object, look, cancel).await? else {
            return Err(unknown(name, &self.database, &look.acceptable));
        };
        let key = layout::key(&self.database, object)?;
        match versions::hash(&*target.target, &key, None, expected.size, &|_| (), cancel).await {
            Ok(found) if found == (expected.size, expected.sha256) => Err(Error::new(
                ErrorKind::NotFound,
                format!("{key} is intact at {}: there is nothing to accept", target.name),
            )
            .remedy("`marbre verify` says what is damaged where.")),
            Err(e) if e.kind == TargetErrorKind::Cancelled => Err(Error::interrupted()),
            Err(e) if !matches!(e.kind, TargetErrorKind::NotFound | TargetErrorKind::Corrupt) => {
                Err(Error::from(e).with_kind(ErrorKind::Target))
            }
            _ => Ok(Matter::Damage(Place { target: target.name.clone(), object: object.to_owned() })),
        }
    }

    /// What an object must be, as a signed record says.
    async fn expected(
        &self,
        object: &str,
        look: &Look<'_>,
        cancel: &CancellationToken,
    ) -> Result<Option<ObjectRef>> {
        let of = |bytes: &[u8]| ObjectRef {
            key: object.to_owned(),
            sha256: Sha256::of(bytes),
            size: bytes.len() as u64,
        };
        for known in look.drills.drills.values() {
            let drill = &known.signed.record.drill;
            if object == layout::drill(drill) {
                return Ok(Some(of(&known.signed.bytes)));
            }
        }
        let entries = look.catalog.entries.values().chain(look.catalog.hidden.values());
        for entry in entries.rev() {
            let snapshot = &entry.receipt.snapshot;
            let inside = object.starts_with(&format!("epochs/{}/", entry.receipt.epoch));
            if !inside && object != layout::receipt(snapshot) && object != layout::signature(snapshot) {
                continue;
            }
            let signed = look.reader.load(entry, cancel).await?;
            if object == layout::receipt(snapshot) {
                return Ok(Some(of(&signed.bytes)));
            }
            if object == layout::signature(snapshot) {
                return Ok(Some(of(signed.signature.as_bytes())));
            }
            if let Some(found) = signed.receipt.object(object) {
                return Ok(Some(found.clone()));
            }
        }
        Ok(None)
    }
}

/// What is wrong with the chains.
fn broken(catalog: &Catalog, drills: &DrillCatalog, seen: Option<(u64, Sha256)>) -> Vec<Acceptable> {
    let mut found = Vec::new();
    let newest = catalog.newest().map_or(0, |entry| entry.receipt.sequence);
    for b in catalog.certain_breaks(seen) {
        let mut problem = ChainProblem::of(Chain::Receipts, &b);
        if problem.problem == Problem::Rollback {
            // Everything after what is shown.
            problem.from = problem.to.min(newest + 1);
        }
        found.push(of_chain(problem, &b));
    }
    for by in [By::Agent, By::Owner] {
        let chain = Chain::of_drills(by);
        let breaks = drills.breaks(by, None).into_iter();
        let unknown = breaks.filter(|b| !catalog.decisions.know_break(chain, b));
        found.extend(unknown.map(|b| of_chain(ChainProblem::of(chain, &b), &b)));
    }
    found
}

fn of_chain<I>(problem: ChainProblem, found: &Break<I>) -> Acceptable
where
    Break<I>: std::fmt::Display,
{
    Acceptable { name: problem.to_string(), problem: found.to_string(), matter: Matter::Chain(problem) }
}

fn names(acceptable: &[Acceptable]) -> Option<String> {
    let names: Vec<String> = acceptable.iter().map(|a| format!("{} ({})", a.name, a.problem)).collect();
    (!names.is_empty()).then(|| first_few(&names, 5))
}

fn nothing(database: &DatabaseId, acceptable: &[Acceptable]) -> Error {
    let error = Error::new(ErrorKind::NotFound, format!("nothing is odd about the content of {database}"));
    match names(acceptable) {
        None => error.remedy("There is nothing to accept. A damaged object is named as `TARGET:KEY`, as `marbre verify` shows it."),
        Some(names) => error
            .cause(format!("what else can be accepted: {names}"))
            .remedy(format!("Say which: `marbre accept {} NAME --why TEXT`.", database.database)),
    }
}

fn unknown(name: &str, database: &DatabaseId, acceptable: &[Acceptable]) -> Error {
    let error =
        Error::new(ErrorKind::NotFound, format!("there is nothing named {name:?} to accept of {database}"));
    let error = match names(acceptable) {
        None => error,
        Some(names) => error.cause(format!("what there is: {names}")),
    };
    error.remedy(format!(
        "`marbre accept {}` lists what can be accepted. A damaged object is named as `TARGET:KEY`, as `marbre verify` shows \
         it.",
        database.database
    ))
}
