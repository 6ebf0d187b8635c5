//! Calls to a disk that may hang. A system call on a dead network mount does not come back for hours, or ever, and cannot
//! be interrupted: its thread is left alone. Whoever waits for it gives up after a while, so that a job goes on with
//! its other targets; and a disk on which several threads hang is not given one more at every question.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::model::human;
use crate::targets::{TargetError, TargetErrorKind};

/// How long one step of a call may take: a read, a write, the sync of a pack on a slow disk.
const PATIENCE: Duration = Duration::from_secs(300);
/// So many calls that nobody waits for any more may be out on one disk before it counts as hanging.
const MOST: usize = 8;
/// The same with those that will never come back, because the disk was mounted anew since.
const MOST_LOST: usize = 64;
/// A call that was left this long is no longer one that is merely on its way back.
const LEFT_LONG: Duration = Duration::from_secs(60);
/// How soon a hanging disk is asked again; each time twice as late, and at last once a day.
const AGAIN: Duration = Duration::from_secs(600);
const SELDOM: Duration = Duration::from_secs(86_400);

/// A call that is at work on its own thread.
pub(super) struct Call {
    cancel: CancellationToken,
    /// When it last came back from the disk; `None` while it waits for something else.
    moved: Mutex<Option<Instant>>,
}

impl Call {
    /// It waits for a thread.
    fn new(cancel: CancellationToken) -> Self {
        Self { cancel, moved: Mutex::new(None) }
    }

    /// The disk has answered.
    pub(super) fn answered(&self) {
        *lock(&self.moved) = Some(Instant::now());
    }

    /// The disk has answered. Fails when nobody waits for the rest.
    pub(super) fn step(&self, operation: &str) -> Result<(), TargetError> {
        self.answered();
        if self.cancel.is_cancelled() { Err(TargetError::cancelled(operation)) } else { Ok(()) }
    }

    /// Waits for something that is not the disk, or until nobody waits for the call.
    pub(super) fn pause(&self, until: impl Future<Output = ()>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        *lock(&self.moved) = None;
        runtime.block_on(async {
            tokio::select! {
                () = self.cancel.cancelled() => {}
                () = until => {}
            }
        });
        self.answered();
    }

    /// When it will have hung, if nothing moves until then.
    fn ends(&self) -> Instant {
        lock(&self.moved).unwrap_or_else(Instant::now) + PATIENCE
    }
}

/// Runs a call to the disk at `place` on a thread of its own. Gives up as soon as `cancel` fires, and when the disk does
/// not answer; the call then ends at its next step.
pub(super) async fn run<T: Send + 'static>(
    place: &Path,
    operation: String,
    cancel: &CancellationToken,
    work: impl FnOnce(&Call) -> Result<T, TargetError> + Send + 'static,
) -> Result<T, TargetError> {
    admit(place).map_err(|cause| TargetError::new(TargetErrorKind::Unavailable, operation.clone(), cause))?;
    let call = Arc::new(Call::new(cancel.child_token()));
    let waiting = Waiting::new(place, &call);
    let (at_work, ticket, named) = (call.clone(), waiting.ticket.clone(), operation.clone());
    let mut thread = tokio::task::spawn_blocking(move || {
        let _back = Back(ticket);
        at_work.step(&named)?;
        work(&at_work)
    });
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(TargetError::cancelled(operation)),
            done = &mut thread => {
                return done.unwrap_or_else(|e| Err(TargetError::given_up(operation, e)));
            }
            () = sleep_until(call.ends()) => {}
        }
        if Instant::now() >= call.ends() {
            let cause = format!("the disk has not answered for {}", human::duration(PATIENCE.as_secs_f64()));
            return Err(TargetError::new(TargetErrorKind::Unavailable, operation, cause));
        }
    }
}

/// What is known of one disk.
#[derive(Default)]
struct Disk {
    /// Calls that nobody waits for.
    left: HashMap<u64, Left>,
    /// When one was let through although others hang, and how many were by then.
    tried: Option<Instant>,
    tries: u32,
}

#[derive(Clone, Copy)]
struct Left {
    since: Instant,
    /// The disk has answered others since then, so this says nothing of the disk.
    lost: bool,
}

/// Threads belong to the process, so what is known of them does too. Disks without calls that were left are not here.
static DISKS: LazyLock<Mutex<HashMap<PathBuf, Disk>>> = LazyLock::new(Mutex::default);

/// Says why a call cannot be made.
fn admit(place: &Path) -> Result<(), String> {
    let mut disks = lock(&DISKS);
    let Some(disk) = disks.get_mut(place) else { return Ok(()) };
    let now = Instant::now();
    let crowd = disk.left.len() >= MOST_LOST;
    let long = disk.left.values().filter(|left| now - left.since >= LEFT_LONG && (crowd || !left.lost));
    let (calls, oldest) = long.fold((0, now), |(n, oldest), left| (n + 1, oldest.min(left.since)));
    if calls < MOST {
        return Ok(());
    }
    let wait = AGAIN.saturating_mul(2_u32.saturating_pow(disk.tries)).min(SELDOM);
    let next = disk.tried.unwrap_or(oldest) + wait;
    if now >= next {
        (disk.tried, disk.tries) = (Some(now), disk.tries.saturating_add(1));
        return Ok(());
    }
    let of = |time: Duration| human::duration(time.as_secs_f64());
    Err(format!(
        "{calls} calls hang on this disk, the oldest for {}, and none comes back; it is asked again in {}",
        of(now - oldest),
        of(next - now)
    ))
}

/// One call in the books: it is left by whoever waits, or it comes back, whichever is first.
#[derive(Debug)]
struct Ticket {
    id: u64,
    place: PathBuf,
    back: Mutex<bool>,
}

/// The side that waits. Dropped before the call is back, it leaves it.
struct Waiting {
    ticket: Arc<Ticket>,
    _ends_the_call: DropGuard,
}

impl Waiting {
    fn new(place: &Path, call: &Call) -> Self {
        let ticket = Ticket { id: rand::random(), place: place.to_owned(), back: Mutex::new(false) };
        Self { ticket: Arc::new(ticket), _ends_the_call: call.cancel.clone().drop_guard() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let back = lock(&self.ticket.back);
        if !*back {
            let mut disks = lock(&DISKS);
            let left = Left { since: Instant::now(), lost: false };
            disks.entry(self.ticket.place.clone()).or_default().left.insert(self.ticket.id, left);
        }
    }
}

/// The side that works.
struct Back(Arc<Ticket>);

impl Drop for Back {
    fn drop(&mut self) {
        *lock(&self.0.back) = true;
        let mut disks = lock(&DISKS);
        if let Some(disk) = disks.get_mut(&self.0.place) {
            disk.left.remove(&self.0.id);
            // It answers again. Mounted anew, it does so without those that hung on it before.
            disk.left.values_mut().for_each(|left| left.lost = true);
            (disk.tried, disk.tries) = (None, 0);
            if disk.left.is_empty() {
                disks.remove(&self.0.place);
            }
        }
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use tokio::time::advance;

    use super::*;

    type Answer = Result<u32, TargetError>;

    /// A call that hangs until somebody answers it, and whoever waits for it.
    async fn hanging(
        place: &'static str,
        cancel: &CancellationToken,
    ) -> (Sender<()>, tokio::task::JoinHandle<Answer>) {
        let ((answer, asked), (begin, begun)) = (channel::<()>(), channel::<()>());
        let cancel = cancel.clone();
        let waiting = async move {
            let work = move |_: &Call| {
                begin.send(()).unwrap();
                Ok(asked.recv().map_or(0, |()| 7))
            };
            run(Path::new(place), "list".to_owned(), &cancel, work).await
        };
        let waiting = tokio::spawn(waiting);
        settle().await;
        begun.recv().unwrap();
        settle().await;
        (answer, waiting)
    }

    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    fn of_disk(place: &str) -> Option<usize> {
        lock(&DISKS).get(Path::new(place)).map(|disk| disk.left.len())
    }

    async fn until_back(place: &str) {
        // Threads have a clock of their own.
        while of_disk(place).is_some() {
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_is_given_up_and_one_that_comes_back_is_not() {
        let cancel = CancellationToken::new();
        let (answer, waiting) = hanging("/hang/one", &cancel).await;
        advance(PATIENCE - Duration::from_secs(1)).await;
        answer.send(()).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 7);
        assert_eq!(of_disk("/hang/one"), None);

        let (answer, waiting) = hanging("/hang/one", &cancel).await;
        advance(PATIENCE + Duration::from_secs(1)).await;
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "list: the disk has not answered for 5 min 0 s");
        assert_eq!((error.kind, of_disk("/hang/one")), (TargetErrorKind::Unavailable, Some(1)));
        answer.send(()).unwrap();
        until_back("/hang/one").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_moves_may_take_as_long_as_it_likes_until_it_is_cancelled() {
        let (cancel, place) = (CancellationToken::new(), Path::new("/hang/slow"));
        let ((go, wait), (stepped, seen)) = (channel::<()>(), channel::<()>());
        let work = move |call: &Call| {
            for () in wait {
                call.step("put x")?;
                stepped.send(()).unwrap();
            }
            Ok(())
        };
        let token = cancel.clone();
        let waiting = tokio::spawn(async move { run(place, "put x".to_owned(), &token, work).await });
        for _ in 0..5 {
            settle().await;
            go.send(()).unwrap();
            seen.recv().unwrap();
            advance(PATIENCE - Duration::from_secs(1)).await;
            settle().await;
            assert!(!waiting.is_finished());
        }
        cancel.cancel();
        assert_eq!(waiting.await.unwrap().unwrap_err().kind, TargetErrorKind::Cancelled);
        // The thread hears of it at its next step.
        go.send(()).unwrap();
        until_back("/hang/slow").await;
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_something_else_is_not_hanging() {
        let (cancel, (pausing, paused)) = (CancellationToken::new(), channel::<()>());
        let work = move |call: &Call| {
            let pace = tokio::time::sleep(PATIENCE * 5);
            call.pause(async move {
                pausing.send(()).unwrap();
                pace.await;
            });
            call.step("put x")
        };
        let place = Path::new("/hang/paced");
        let waiting = tokio::spawn(async move { run(place, "put x".to_owned(), &cancel, work).await });
        settle().await;
        paused.recv().unwrap();
        for _ in 0..4 {
            advance(PATIENCE).await;
            settle().await;
            assert!(!waiting.is_finished());
        }
        advance(PATIENCE).await;
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_on_which_many_hang_is_asked_seldom_and_is_well_when_one_comes_back() {
        let (cancel, place) = (CancellationToken::new(), "/hang/many");
        let mut calls = Vec::new();
        for _ in 0..MOST {
            let (answer, waiting) = hanging(place, &cancel).await;
            // Whoever waited was itself given up.
            waiting.abort();
            assert!(waiting.await.is_err());
            calls.push(answer);
        }
        assert_eq!(of_disk(place), Some(MOST));
        assert_eq!(admit(Path::new(place)), Ok(()), "they may be on their way back");
        advance(LEFT_LONG).await;
        let refused = run(Path::new(place), "list".to_owned(), &cancel, |_| Ok(()));
        let error = refused.await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "list: 8 calls hang on this disk, the oldest for 1 min 0 s, and none comes back; it is asked again in \
             9 min 0 s"
        );
        assert_eq!(admit(Path::new("/hang/other")), Ok(()));
        // One is let through after ten minutes, the next after twenty more.
        for minutes in [9, 20, 40] {
            advance(Duration::from_secs(minutes * 60 - 1)).await;
            assert!(admit(Path::new(place)).is_err(), "{minutes}");
            advance(Duration::from_secs(1)).await;
            assert_eq!(admit(Path::new(place)), Ok(()), "{minutes}");
        }
        // Mounted anew, the disk answers, and those that hung never come back.
        let remounted = |_: &Call| Ok(());
        advance(SELDOM).await;
        run(Path::new(place), "list".to_owned(), &cancel, remounted).await.unwrap();
        assert_eq!(of_disk(place), Some(MOST));
        for _ in 0..3 {
            assert_eq!(admit(Path::new(place)), Ok(()), "it is well for everybody");
        }
        drop(calls);
        until_back(place).await;
    }
}
