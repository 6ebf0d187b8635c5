//! What is asked of a server without waiting in between: of a short stream of rows, most of the time is the way there and back.

/// Streams of rows up to so many bytes are short.
pub(crate) const SHORT: u64 = 64 << 10;

/// So many are asked for at a time, at most.
pub(crate) const TOGETHER: usize = 24;

/// Puts short ones that follow each other together; any other is alone. The order stays.
pub(crate) fn groups<T>(items: impl IntoIterator<Item = T>, is_short: impl Fn(&T) -> bool) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    for item in items {
        match groups.last_mut() {
            Some(group) if group.len() < TOGETHER && is_short(&group[0]) && is_short(&item) => {
                group.push(item)
            }
            _ => groups.push(vec![item]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ones_are_together_and_others_alone() {
        let sizes = [1, 2, 90, 3, 90, 90, 4, 5];
        assert_eq!(
            groups(sizes, |size| *size < 10),
            [vec![1, 2], vec![90], vec![3], vec![90], vec![90], vec![4, 5]]
        );
        let lengths: Vec<usize> = groups(0..50, |_| true).iter().map(Vec::len).collect();
        assert_eq!(lengths, [TOGETHER, TOGETHER, 2]);
    }
}
