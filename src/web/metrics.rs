//! `/metrics`: every number that the daemon knows, with names and units as Prometheus wants them.
//!
//! Moments are Unix seconds, so that `time() - metric` is an age whoever asks, and whenever. What is not known is
//! absent.

use jiff::Timestamp;

use super::exposition::{Exposition, Labels, Sample};
use super::published::{Published, PublishedDatabase};
use crate::health::status::{DatabaseStatus, DrillSummary, TargetStatus};
use crate::model::age::Age;
use crate::model::condition::Severity;
use crate::model::id::DatabaseId;
use crate::model::job::{JobKind, SlotState};

/// Renders all metrics as they are at `now`.
pub fn metrics(published: &Published, now: Timestamp) -> String {
    let mut exposition = Exposition::default();
    let views: Vec<View<'_>> = published.databases.iter().map(|database| View::of(database, now)).collect();
    daemon(&mut exposition, published);
    snapshots(&mut exposition, &views);
    promises(&mut exposition, &views);
    targets(&mut exposition, &views, now);
    jobs(&mut exposition, &views);
    incidents(&mut exposition, published);
    exposition.finish()
}

/// A database, and how it stands now.
struct View<'a> {
    database: &'a PublishedDatabase,
    status: Option<DatabaseStatus>,
}

impl<'a> View<'a> {
    fn of(database: &'a PublishedDatabase, now: Timestamp) -> Self {
        Self { database, status: database.status_at(now) }
    }

    fn sample(&self, more: Labels, value: f64) -> Sample {
        let mut labels = names(Some(&self.database.database));
        labels.extend(more);
        Sample { labels, value }
    }
}

/// One value per database, from its status.
fn each(views: &[View<'_>], value: impl Fn(&DatabaseStatus) -> Option<f64>) -> Vec<Sample> {
    let known = |view: &View<'_>| Some(view.sample(Vec::new(), value(view.status.as_ref()?)?));
    views.iter().filter_map(known).collect()
}

/// Any number of values per target.
fn each_target(
    views: &[View<'_>],
    values: impl Fn(&TargetStatus) -> Vec<(Option<&'static str>, Option<f64>)>,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    for view in views {
        for target in view.status.iter().flat_map(|status| &status.targets) {
            for (level, value) in values(target) {
                let mut labels = vec![("target", target.name.to_string())];
                labels.extend(level.map(|level| ("level", level.to_owned())));
                samples.extend(value.map(|value| view.sample(labels, value)));
            }
        }
    }
    samples
}

/// Publisher and database; both are empty, which Prometheus treats as absent, for what concerns the whole agent.
fn names(database: Option<&DatabaseId>) -> Labels {
    let text = |part: Option<String>| part.unwrap_or_default();
    vec![
        ("publisher", text(database.map(|d| d.publisher.to_string()))),
        ("database", text(database.map(|d| d.database.to_string()))),
    ]
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn flag(truth: bool) -> f64 {
    f64::from(u8::from(truth))
}

fn single(value: f64) -> [Sample; 1] {
    [Sample { labels: Vec::new(), value }]
}

fn daemon(e: &mut Exposition, published: &Published) {
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    e.gauge(
        "marbre_build_info",
        "The version of marbre; the value is always 1.",
        [Sample { labels: version, value: 1.0 }],
    );
    e.gauge(
        "marbre_start_timestamp_seconds",
        "When the daemon started.",
        single(seconds(published.started_at)),
    );
    e.gauge(
        "marbre_config_last_reload_successful",
        "1 where the newest configuration is followed, 0 where it was refused and an older one still is.",
        single(flag(published.config.refused_at.is_none())),
    );
    e.gauge(
        "marbre_config_last_reload_success_timestamp_seconds",
        "When the configuration that is followed was loaded.",
        single(seconds(published.config.loaded_at)),
    );
}

fn snapshots(e: &mut Exposition, views: &[View<'_>]) {
    let look = |view: &View<'_>| Some(view.sample(Vec::new(), seconds(view.database.look.as_ref()?.at)));
    e.gauge(
        "marbre_look_timestamp_seconds",
        "When the daemon last looked at the database's targets; what the other metrics say is as old.",
        views.iter().filter_map(look),
    );
    e.gauge(
        "marbre_snapshot_last_success_timestamp_seconds",
        "The moment whose state the newest snapshot holds.",
        each(views, |s| s.consistent_at.map(seconds)),
    );
    e.gauge(
        "marbre_snapshot_last_attempt_timestamp_seconds",
        "When the newest run of a snapshot began or ended, whatever became of it.",
        views.iter().filter_map(|view| Some(view.sample(Vec::new(), seconds(last_attempt(view)?)))),
    );
    e.gauge(
        "marbre_snapshot_duration_seconds",
        "How long the newest snapshot took to be read and packed.",
        each(views, |s| s.figures.as_ref().map(|f| f.seconds)),
    );
    e.gauge(
        "marbre_snapshot_rows",
        "Rows of the newest snapshot.",
        each(views, |s| s.figures.as_ref().map(|f| f.rows as f64)),
    );
    let mut bytes = Vec::new();
    for view in views {
        let Some(figures) = view.status.as_ref().and_then(|status| status.figures.as_ref()) else { continue };
        let kinds =
            [("read", figures.bytes_read), ("new", figures.new_bytes), ("stored", figures.stored_bytes)];
        bytes.extend(kinds.map(|(kind, n)| view.sample(vec![("kind", kind.to_owned())], n as f64)));
    }
    e.gauge(
        "marbre_snapshot_bytes",
        "Bytes of the newest snapshot: read from the source, new to its epoch, and stored per target after compression.",
        bytes,
    );
}

/// A snapshot that somebody took by hand is an attempt too.
fn last_attempt(view: &View<'_>) -> Option<Timestamp> {
    let snapshot = view.database.jobs.iter().find(|job| job.job == JobKind::Snapshot);
    let scheduled = snapshot.and_then(|job| job.last_attempt);
    scheduled.max(view.status.as_ref().and_then(|status| status.consistent_at))
}

fn promises(e: &mut Exposition, views: &[View<'_>]) {
    e.gauge(
        "marbre_rpo_seconds",
        "How old the newest snapshot may become.",
        each(views, |s| s.rpo_seconds.map(|rpo| rpo as f64)),
    );
    e.gauge(
        "marbre_rpo_met",
        "1 where the newest snapshot is not older than that.",
        each(views, |s| s.rpo_seconds.map(|_| flag(!s.late))),
    );
    let drill =
        |value: fn(&DrillSummary) -> Option<f64>| each(views, move |s| s.last_drill.as_ref().and_then(value));
    e.gauge(
        "marbre_drill_last_attempt_timestamp_seconds",
        "When the newest drill of the agent was over, passed or not.",
        drill(|d| Some(seconds(d.at))),
    );
    e.gauge(
        "marbre_drill_last_passed",
        "1 where that drill has proven its snapshot.",
        drill(|d| Some(flag(d.passed))),
    );
    e.gauge(
        "marbre_drill_every_seconds",
        "How old the newest proof by a drill may become.",
        each(views, |s| s.drill_every_seconds.map(|every| every as f64)),
    );
    e.gauge(
        "marbre_rto_seconds",
        "How long a recovery may take.",
        drill(|d| d.rto_promised_seconds.map(|rto| rto as f64)),
    );
    e.gauge(
        "marbre_rto_measured_seconds",
        "How long the recovery of the newest drill took.",
        drill(|d| d.rto_seconds),
    );
    e.gauge(
        "marbre_rto_met",
        "1 where the newest drill recovered within that time.",
        drill(|d| {
            let promised = d.rto_promised_seconds?;
            Some(flag(d.passed && d.rto_seconds.is_some_and(|took| took <= promised as f64)))
        }),
    );
}

fn targets(e: &mut Exposition, views: &[View<'_>], now: Timestamp) {
    e.gauge(
        "marbre_target_up",
        "1 where the target could be reached at the newest look.",
        each_target(views, |t| vec![(None, Some(flag(t.error.is_none())))]),
    );
    e.gauge(
        "marbre_target_behind_snapshots",
        "Snapshots that the target lacks and another one has.",
        each_target(views, |t| vec![(None, t.behind.map(|behind| behind as f64))]),
    );
    e.gauge(
        "marbre_target_unneeded_bytes",
        "Bytes of the target's objects that no receipt named at the newest prune, and that wait for the end of the grace.",
        each_target(views, |t| vec![(None, t.unneeded_bytes.map(|bytes| bytes as f64))]),
    );
    e.gauge(
        "marbre_target_level_timestamp_seconds",
        "When each level was proven for the newest snapshot that the target holds; damaged: when damage was found.",
        each_target(views, |t| {
            let levels = &t.levels;
            [
                ("stored", levels.stored),
                ("intact", levels.intact),
                ("restored", levels.restored),
                ("owner-restored", levels.owner_restored),
                ("damaged", levels.damaged),
            ]
            .map(|(level, at)| (Some(level), at.map(seconds)))
            .to_vec()
        }),
    );
    e.gauge(
        "marbre_proof_age_seconds",
        "How long ago any snapshot was last restored from the target and found equal, by the agent or by its owner.",
        each_target(views, |t| {
            [("restored", &t.restored), ("owner-restored", &t.owner_restored)]
                .map(|(level, proof)| {
                    // What is dated ahead has no age: rules take the lack of one for overdue.
                    let trusted = proof.as_ref().filter(|p| Age::of(p.at, now).ahead().is_none());
                    let age = trusted.map(|p| now.duration_since(p.at).as_secs_f64().max(0.0));
                    (Some(level), age)
                })
                .to_vec()
        }),
    );
}

fn jobs(e: &mut Exposition, views: &[View<'_>]) {
    let moment = |value: fn(&super::JobFigures) -> Option<Timestamp>| {
        let of = move |view: &View<'_>| -> Vec<Sample> {
            let known = view.database.jobs.iter().filter_map(|job| Some((job.job, seconds(value(job)?))));
            known.map(|(job, at)| view.sample(vec![("job", job.to_string())], at)).collect()
        };
        views.iter().flat_map(of).collect::<Vec<_>>()
    };
    e.gauge("marbre_job_next_run_timestamp_seconds", "When the job starts next.", moment(|j| j.next_run));
    e.gauge(
        "marbre_job_last_attempt_timestamp_seconds",
        "When the newest run of the job ended, or began where it is still at work.",
        moment(|j| j.last_attempt),
    );
    e.gauge(
        "marbre_job_last_success_timestamp_seconds",
        "When the newest run of the job that did what it had to ended.",
        moment(|j| j.last_success),
    );
    let mut states = Vec::new();
    for view in views {
        for (job, last) in view.database.jobs.iter().filter_map(|job| Some((job.job, job.last_state?))) {
            for &state in SlotState::ALL {
                let labels = vec![("job", job.to_string()), ("state", state.word().to_owned())];
                states.push(view.sample(labels, flag(state == last)));
            }
        }
    }
    e.gauge(
        "marbre_job_last_state",
        "What became of the job's newest slot: 1 for that state, 0 for the others.",
        states,
    );
}

fn incidents(e: &mut Exposition, published: &Published) {
    let severities = [Severity::Warning, Severity::Critical];
    let whose = published.databases.iter().map(|d| Some(&d.database)).chain([None]);
    let mut open = Vec::new();
    for database in whose {
        for severity in severities {
            let counted =
                published.incidents.iter().filter(|i| i.concerns(database) && i.severity == severity);
            let mut labels = names(database);
            labels.push(("severity", severity.word().to_owned()));
            open.push(Sample { labels, value: counted.count() as f64 });
        }
    }
    e.gauge(
        "marbre_incidents_open",
        "Incidents that are open; one that several databases share counts for each. Without a database: those of the whole agent.",
        open,
    );
    let since = published.incidents.iter().map(|incident| {
        let mut labels = names(incident.database.as_ref());
        labels.extend([
            ("key", incident.key.clone()),
            ("kind", incident.kind.word().to_owned()),
            ("severity", incident.severity.word().to_owned()),
        ]);
        Sample { labels, value: seconds(incident.since) }
    });
    e.gauge("marbre_incident_since_timestamp_seconds", "Since when each open incident is open.", since);
}
