//! What surrounds the agent and changes slowly: other databases on the servers, certificates, tokens, clocks. It is asked
//! for seldom, by whoever looks often, and what was answered is kept.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Neighbours};
use crate::error::{Error, Result};
use crate::health::expiry::{Expiry, Skew, Thing, token_ends};
use crate::health::neighbours;
use crate::health::neighbours::undeclared;
use crate::model::check::{Check, CheckState};
use crate::model::condition::{Condition, ConditionKind};
use crate::model::id::{DatabaseId, TargetName};
use crate::model::incident::Unknown;
use crate::system::certificate::{Protocol, Server, Shown};

/// How often servers are asked for their databases and clocks, and what did not answer is asked again.
const SOON: SignedDuration = SignedDuration::from_hours(1);
/// How often certificates are looked at.
const SELDOM: SignedDuration = SignedDuration::from_hours(24);
/// How long a server may take where nobody waits for what it says, and a database server in any case: many databases are asked
/// for at a time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
/// Databases that are asked at the same time. Often they are on one server, which others want to use too.
pub(crate) const PARALLEL: usize = 8;

/// Where to look.
pub(crate) struct Surroundings {
    /// The engine of every declared database, or why it could not be made.
    pub engines: Vec<(DatabaseId, Result<Arc<dyn Engine>>)>,
    /// Databases that need no snapshots.
    pub ignored: Vec<String>,
    /// The servers that the agent speaks to.
    pub servers: Vec<NamedServer>,
    /// Credentials files whose tokens may end.
    pub credentials: Vec<Credentials>,
}

/// A server, and what it is for.
#[derive(Debug, Clone)]
pub(crate) struct NamedServer {
    /// What it is, with its place: `target nas (nas.example:9000)`.
    pub name: String,
    /// The target whose clock it has.
    pub target: Option<TargetName>,
    /// The server.
    pub server: Server,
}

/// A profile in a credentials file.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// The target that they are for.
    pub target: TargetName,
    /// The file.
    pub file: PathBuf,
    /// The profile.
    pub profile: String,
}

/// What was answered so far.
#[derive(Debug, Default)]
pub(crate) struct Known {
    neighbours: BTreeMap<DatabaseId, Memory<Neighbours>>,
    servers: BTreeMap<String, Memory<Answer>>,
}

/// What a server showed, and when.
#[derive(Debug, Clone, Copy)]
struct Answer {
    shown: Shown,
    at: Timestamp,
}

/// The last answer, which stays while there is no newer one.
#[derive(Debug)]
struct Memory<T> {
    asked: Timestamp,
    answer: Option<T>,
    error: Option<Error>,
}

impl<T> Memory<T> {
    fn is_due(memory: Option<&Self>, every: SignedDuration, now: Timestamp) -> bool {
        memory.is_none_or(|memory| {
            let every = if memory.error.is_some() { SOON } else { every };
            now.duration_since(memory.asked).abs() >= every
        })
    }

    fn keep(memory: Option<Self>, result: Result<Option<T>>, now: Timestamp) -> Self {
        match result {
            Ok(answer) => Self { asked: now, answer, error: None },
            Err(e) => Self { asked: now, answer: memory.and_then(|m| m.answer), error: Some(e) },
        }
    }
}

/// What is wrong, and what could not be looked at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// What is wrong.
    pub conditions: Vec<Condition>,
    /// What could not be looked at, now or before.
    pub unknown: Vec<Unknown>,
}

impl Surroundings {
    /// Asks for what is due. `patience` is for servers other than those of databases.
    pub(crate) async fn ask(
        &self,
        known: &mut Known,
        patience: Duration,
        now: Timestamp,
        cancel: &CancellationToken,
    ) {
        let due = |id: &&DatabaseId| Memory::is_due(known.neighbours.get(id), SOON, now);
        let databases: Vec<&DatabaseId> = self.engines.iter().map(|(id, _)| id).filter(due).collect();
        let servers: Vec<&NamedServer> = self.servers.iter().filter(|s| s.is_due(known, now)).collect();
        let ask = databases.iter().map(|id| self.ask_database(id, cancel)).collect::<Vec<_>>();
        let answers = stream::iter(ask).buffered(PARALLEL).collect::<Vec<_>>();
        let shown = join_all(servers.iter().map(|server| server.server.look(patience, cancel)));
        let (answers, shown) = futures_util::future::join(answers, shown).await;
        for (id, answer) in databases.into_iter().zip(answers) {
            let before = known.neighbours.remove(id);
            known.neighbours.insert(id.clone(), Memory::keep(before, answer, now));
        }
        for (server, shown) in servers.into_iter().zip(shown) {
            let before = known.servers.remove(&server.name);
            let answer = shown.map(|shown| Some(Answer { shown, at: now }));
            known.servers.insert(server.name.clone(), Memory::keep(before, answer, now));
        }
    }

    async fn ask_database(&self, id: &DatabaseId, cancel: &CancellationToken) -> Result<Option<Neighbours>> {
        let engine = self.engines.iter().find(|(other, _)| other == id).map(|(_, engine)| engine);
        let engine = engine.ok_or_else(|| Error::internal("a database without an engine"))?;
        let engine = engine.as_ref().map_err(Clone::clone)?;
        let answer = tokio::time::timeout(PATIENCE, engine.neighbours(cancel)).await;
        answer.unwrap_or_else(|_| {
            let what = format!("no answer from {} within {} s", engine.describe(), PATIENCE.as_secs());
            Err(Error::database(what).remedy("Check that the server runs and can be reached."))
        })
    }

    /// What is wrong, by what is known.
    pub(crate) fn found(&self, known: &Known, now: Timestamp) -> Found {
        let (answers, silent) = self.neighbours(known);
        let mut found = Found::default();
        found.conditions.extend(undeclared(&answers, &silent, &self.ignored).iter().map(|u| u.condition()));
        if !silent.is_empty() {
            found.unknown.push(unknown(ConditionKind::UndeclaredDatabase, None));
        }
        for server in &self.servers {
            match server.answer(known) {
                Some(answer) => found.conditions.extend(server.conditions(answer, now)),
                None => {
                    let object = server.expiry(Timestamp::MAX).object();
                    found.unknown.push(unknown(ConditionKind::Expiring, Some(object)));
                    let target = server.target.as_ref();
                    found
                        .unknown
                        .extend(target.map(|t| unknown(ConditionKind::ClockSkew, Some(t.to_string()))));
                }
            }
        }
        let tokens = self.credentials.iter().filter_map(Credentials::expiry);
        found.conditions.extend(tokens.filter_map(|token| token.condition(now)));
        found
    }

    /// The answers, and the names of the databases whose server has not answered.
    fn neighbours(&self, known: &Known) -> (Vec<Neighbours>, Vec<String>) {
        let (mut answers, mut silent) = (Vec::new(), Vec::new());
        for (id, engine) in &self.engines {
            let memory = known.neighbours.get(id);
            match memory.and_then(|memory| memory.answer.clone()) {
                Some(answer) => answers.push(answer),
                None if memory.is_some_and(|memory| memory.error.is_none()) => {}
                None => {
                    let place = engine.as_ref().ok().and_then(|engine| engine.place());
                    silent.push(place.map_or_else(|| id.database.to_string(), |place| place.database));
                }
            }
        }
        (answers, silent)
    }

    /// What `doctor` shows: databases that nobody protects on each server, and everything that ends. `whole` is whether
    /// every declared database is among the engines: otherwise the others would seem to be undeclared.
    pub(crate) fn checks(&self, known: &Known, whole: bool, now: Timestamp) -> Vec<(String, Vec<Check>)> {
        let mut groups = Vec::new();
        if whole {
            groups.push(("database servers".to_owned(), self.server_checks(known)));
        }
        let mut ends = Vec::new();
        for server in &self.servers {
            match known.servers.get(&server.name) {
                Some(Memory { answer: Some(answer), .. }) => ends.extend(server.checks(*answer, now)),
                Some(Memory { error: Some(e), .. }) => ends.push(skipped(server.name.clone(), e)),
                _ => {}
            }
        }
        ends.extend(self.credentials.iter().filter_map(Credentials::expiry).map(|token| token.check(now)));
        groups.push(("certificates, tokens and clocks".to_owned(), ends));
        groups.retain(|(_, checks)| !checks.is_empty());
        groups
    }

    fn server_checks(&self, known: &Known) -> Vec<Check> {
        let (answers, silent) = self.neighbours(known);
        let found = undeclared(&answers, &silent, &self.ignored);
        let mut servers: Vec<String> = answers.iter().map(|a| neighbours::server(&a.place)).collect();
        servers.dedup();
        let mut checks: Vec<Check> = Vec::new();
        for undeclared in &found {
            checks.push(Check {
                name: format!("database {}", undeclared.database),
                state: CheckState::Warn,
                found: format!("nobody protects it; it is on {}", undeclared.server),
                remedy: Some(neighbours::REMEDY.to_owned()),
            });
        }
        if found.is_empty() && !answers.is_empty() {
            let found = format!("every database on {} is declared or ignored", servers.join(", "));
            checks.push(Check { name: "databases".into(), state: CheckState::Ok, found, remedy: None });
        }
        let mut errors =
            known.neighbours.iter().filter_map(|(id, memory)| Some((id, memory.error.as_ref()?)));
        if let Some((id, e)) = errors.next() {
            // Databases of one server mostly share the reason.
            let more = match errors.count() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            checks.push(skipped(format!("neighbours of {id}{more}"), e));
        }
        checks
    }
}

fn skipped(name: String, e: &Error) -> Check {
    Check {
        name,
        state: CheckState::Skipped,
        found: e.to_string(),
        remedy: e.remedy_text().map(str::to_owned),
    }
}

fn unknown(kind: ConditionKind, object: Option<String>) -> Unknown {
    Unknown { kind: Some(kind), database: None, object }
}

impl NamedServer {
    fn is_due(&self, known: &Known, now: Timestamp) -> bool {
        let has_clock =
            matches!(self.server.protocol, Protocol::Http | Protocol::Https) && self.target.is_some();
        Memory::is_due(known.servers.get(&self.name), if has_clock { SOON } else { SELDOM }, now)
    }

    fn answer(&self, known: &Known) -> Option<Answer> {
        known.servers.get(&self.name)?.answer
    }

    fn expiry(&self, ends: Timestamp) -> Expiry {
        Expiry { thing: Thing::Certificate, of: self.name.clone(), ends }
    }

    fn skew(&self, answer: Answer) -> Option<Skew> {
        let (target, clock) = (self.target.clone()?, answer.shown.clock?);
        Some(Skew { target, ahead: answer.at.duration_since(clock) })
    }

    fn conditions(&self, answer: Answer, now: Timestamp) -> impl Iterator<Item = Condition> {
        let expiry = answer.shown.certificate_ends.and_then(|ends| self.expiry(ends).condition(now));
        let skew = self.skew(answer).and_then(|skew| skew.condition());
        expiry.into_iter().chain(skew)
    }

    fn checks(&self, answer: Answer, now: Timestamp) -> impl Iterator<Item = Check> {
        let expiry = answer.shown.certificate_ends.map(|ends| self.expiry(ends).check(now));
        expiry.into_iter().chain(self.skew(answer).map(|skew| skew.check()))
    }
}

impl Credentials {
    /// What is in the file now. Whoever cannot read it is told by the target.
    fn expiry(&self) -> Option<Expiry> {
        let text = std::fs::read_to_string(&self.file).ok()?;
        let ends = token_ends(&text, &self.profile)?;
        Some(Expiry { thing: Thing::Token, of: format!("target {}", self.target), ends })
    }
}
