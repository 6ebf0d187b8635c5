//! Rows that are not there any more: how the content of a database developed from snapshot to snapshot.

use super::drill_check::Percent;

/// What is lost where nothing else is said.
pub(crate) const DEFAULT_LIMIT: Percent = Percent(25.0);

/// The content of a snapshot, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    /// Its place in the chain.
    pub sequence: u64,
    /// Its rows.
    pub rows: u64,
}

/// The newest snapshot has too few rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loss {
    /// The snapshot that had the most.
    pub best: Content,
    /// The first of those that lack them, up to the newest.
    pub since: Content,
    /// The newest.
    pub newest: Content,
}

/// Whether the newest snapshot lacks more than this share of the rows that an accepted one had: of all since the one that
/// somebody accepted, the one that had the most counts, so that no number of small losses makes a large one. The contents are
/// in the order of the chain.
pub(crate) fn loss(contents: &[Content], accepted: Option<u64>, limit: Percent) -> Option<Loss> {
    let from = contents.partition_point(|content| accepted.is_some_and(|at| content.sequence < at));
    let contents = &contents[from..];
    let (newest, before) = contents.split_last()?;
    // Of several, the last one that had them.
    let best = before.iter().max_by_key(|content| (content.rows, content.sequence))?;
    let lacks = |content: &&Content| (content.rows as f64) < best.rows as f64 * (1.0 - limit.0 / 100.0);
    if !lacks(&newest) {
        return None;
    }
    let since = contents.iter().rev().take_while(lacks).last()?;
    Some(Loss { best: *best, since: *since, newest: *newest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rows: &[u64], accepted: Option<u64>) -> Option<(u64, u64)> {
        let contents: Vec<Content> =
            (1..).zip(rows).map(|(sequence, rows)| Content { sequence, rows: *rows }).collect();
        let loss = loss(&contents, accepted, Percent(25.0))?;
        Some((loss.best.sequence, loss.since.sequence))
    }

    #[test]
    fn a_quarter_may_go_and_no_more() {
        assert_eq!(found(&[], None), None);
        assert_eq!(found(&[5], None), None);
        assert_eq!(found(&[100, 75], None), None);
        assert_eq!(found(&[100, 74], None), Some((1, 2)));
        assert_eq!(found(&[90, 100, 100, 74, 60, 74], None), Some((3, 4)));
        assert_eq!(found(&[0, 0], None), None);
        let all = [Content { sequence: 1, rows: 9 }, Content { sequence: 2, rows: 0 }];
        assert_eq!(loss(&all, None, Percent(100.0)), None, "switched off");
    }

    #[test]
    fn small_losses_add_up() {
        assert_eq!(found(&[100, 90, 81, 73], None), Some((1, 4)));
        assert_eq!(found(&[100, 90, 81, 76], None), None);
    }

    #[test]
    fn it_is_over_when_they_are_back_or_somebody_accepts_it() {
        assert_eq!(found(&[100, 50, 80], None), None);
        assert_eq!(found(&[100, 50, 50], Some(2)), None);
        assert_eq!(found(&[100, 50, 30], Some(2)), Some((2, 3)));
        // What was accepted before says nothing of what came after.
        assert_eq!(found(&[100, 100, 50], Some(1)), Some((2, 3)));
    }
}
