//! Looks at a restored database from the sandbox: each look is a process of this same program, which sees nothing but the
//! database. A file that was made to break SQLite breaks that process.
//!
//! The question goes to it as one JSON document on its standard input, the answer comes back as one on its standard output.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::database_stream::database_stream;
use super::integrity::Violation;
use super::{compare, damage, integrity, query};
use crate::engine::Comparison;
use crate::engine::scratch::{Damage, Examination};
use crate::error::{Error, ErrorRecord, Result, ResultExt};
use crate::model::isolation::Isolation;
use crate::model::stream::Contents;
use crate::system::runner::Runner;
use crate::system::sandbox::{self, Room};

/// The word that makes this program answer one question, and nothing else.
pub(crate) const VERB: &str = "look-at-sqlite";

/// The longest answer that is read, in bytes: what answers may be hostile.
const LONGEST_ANSWER: u64 = 256 * 1024 * 1024;

/// The longest complaint of what makes the sandbox, in bytes.
const LONGEST_COMPLAINT: u64 = 64 * 1024;

/// A question about a database that nobody else uses.
#[derive(Serialize, Deserialize)]
pub(crate) enum Question {
    /// Is it equal to these contents?
    Compare(Box<Contents>),
    /// What does this query say?
    Query {
        /// One statement.
        sql: String,
        /// How long it may take.
        timeout: Duration,
    },
    /// What do SQLite's own checks say, but for these?
    Examine {
        /// Names of checks.
        skip: Vec<String>,
        /// The foreign keys that the source broke.
        source: Vec<Violation>,
    },
    /// Damage it, and say what was done.
    Damage(Damage, Box<Contents>),
}

#[derive(Serialize, Deserialize)]
struct Asked {
    path: PathBuf,
    question: Question,
}

/// Who looks: this process, or one in a sandbox.
#[derive(Debug, Clone)]
pub(crate) enum Looker {
    /// This process.
    Here,
    /// A process in the sandbox.
    Sandboxed(Box<Runner>),
}

impl Looker {
    /// Fails if there is to be a sandbox, and the host offers none.
    pub(super) async fn new(isolation: Isolation) -> Result<Self> {
        Ok(match isolation {
            // For root, a process that owns nothing: root without any capability can still write to what root owns.
            Isolation::Sandbox => Self::Sandboxed(Box::new(Runner::new("nobody", isolation).await?)),
            Isolation::Server | Isolation::None => Self::Here,
        })
    }

    /// The way in, for processes of another user.
    pub(super) async fn open_way(&self, folder: &Path) -> Result<()> {
        match self {
            Self::Here => Ok(()),
            Self::Sandboxed(runner) => runner.open_way(folder).await,
        }
    }

    /// The answer to a question about the database in `path`.
    pub(super) async fn ask<T: Serialize + DeserializeOwned>(
        &self,
        path: PathBuf,
        question: Question,
        cancel: &CancellationToken,
    ) -> Result<T> {
        let asked = Asked { path, question };
        let answer = match self {
            Self::Here => answer(asked, cancel).await?,
            Self::Sandboxed(runner) => {
                tokio::select! {
                    biased;
                    // The process is killed when it is dropped.
                    () = cancel.cancelled() => return Err(Error::interrupted()),
                    answer = ask_child(runner, &asked) => answer?,
                }
            }
        };
        serde_json::from_value(answer).or_internal("read the answer about a SQLite database")
    }
}

async fn ask_child(runner: &Runner, asked: &Asked) -> Result<serde_json::Value> {
    let program = std::env::current_exe().or_internal("find this program")?;
    let folder = asked.path.parent().unwrap_or(Path::new("/")).to_owned();
    runner.give_all(&folder)?;
    let mut room = Room { read: vec![program.clone()], ..Room::default() };
    match asked.question {
        Question::Damage(..) => room.write.push(folder),
        _ => room.read.push(folder),
    }
    let mut confined = runner.command(&program, &room)?;
    confined.command.arg(VERB).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = confined.spawn().await?.or_internal("start a look at a SQLite database")?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(Error::internal("a look at a SQLite database has no streams"));
    };
    let question = serde_json::to_vec(asked).or_internal("write a question")?;
    let ask = async move {
        // If it has ended, its status says why.
        let _broken = stdin.write_all(&question).await;
    };
    let mut answer = Vec::new();
    let mut complaint = Vec::new();
    let (mut answers, mut complaints) = (stdout.take(LONGEST_ANSWER), stderr.take(LONGEST_COMPLAINT));
    let ((), read, complained) =
        tokio::join!(ask, answers.read_to_end(&mut answer), complaints.read_to_end(&mut complaint));
    read.and(complained).or_internal("read an answer")?;
    let status = child.wait().await.or_internal("wait for a look at a SQLite database")?;
    let answered: Option<std::result::Result<serde_json::Value, ErrorRecord>> =
        serde_json::from_slice(&answer).ok();
    match answered.filter(|_| status.success()) {
        Some(answered) => answered.map_err(|e| Error::from(&e)),
        // What makes the sandbox, and what starts in it, did not get to this program.
        None if matches!(status.code(), Some(1 | 126 | 127)) && !complaint.is_empty() => {
            let said = String::from_utf8_lossy(&complaint);
            Err(sandbox::refused(said.lines().last().unwrap_or_default().trim()))
        }
        None => Err(Error::verification("the restored database broke the process that looked at it")
            .cause(format!("it ended with {status}, and without an answer"))
            .remedy("Treat the file as hostile: do not open it with rights that matter. Drill an earlier snapshot.")),
    }
}

/// Answers in this process.
async fn answer(asked: Asked, cancel: &CancellationToken) -> Result<serde_json::Value> {
    let Asked { path, question } = asked;
    let answered = match question {
        Question::Compare(contents) => {
            let (entry, _) = database_stream(&contents)?;
            let comparison: Comparison = compare::compare(path, true, &contents, entry, cancel).await?;
            serde_json::to_value(comparison)
        }
        Question::Query { sql, timeout } => {
            serde_json::to_value(query::ask(&path, &sql, timeout, cancel).await?)
        }
        Question::Examine { skip, source } => {
            let wanted = |name: &'static str| !skip.iter().any(|skipped| skipped == name);
            let found: Vec<Examination> = integrity::examine(path, wanted, source, cancel).await?;
            serde_json::to_value(found)
        }
        Question::Damage(kind, contents) => {
            serde_json::to_value(damage::damage(path, kind, &contents, cancel).await?)
        }
    };
    answered.or_internal("write an answer")
}

/// Answers the question on the standard input: what a process in the sandbox does.
pub(crate) async fn answer_one() -> Result<()> {
    let mut question = Vec::new();
    std::io::stdin().lock().read_to_end(&mut question).or_internal("read a question")?;
    let asked: Asked = serde_json::from_slice(&question).or_internal("read a question")?;
    let answered = answer(asked, &CancellationToken::new()).await.map_err(|e| ErrorRecord::from(&e));
    let bytes = serde_json::to_vec(&answered).or_internal("write an answer")?;
    std::io::stdout().lock().write_all(&bytes).or_internal("write an answer")
}
