//! What the titles of the demo sell, and the day on which it is set.

/// The day of the story before the night, as days since 1 January 2000: 21 November 2026.
pub(super) const TODAY: usize = 9821;

/// The plans: code, name, edition, price in cents, months that a payment covers.
pub(super) const PLANS: [(&str, &str, &str, i64, u64); 6] = [
    ("PAP7", "Papier 7 jours", "papier", 3490, 1),
    ("PAP7A", "Papier 7 jours, un an", "papier", 38900, 12),
    ("WE", "Week-end", "week-end", 1490, 1),
    ("NUM", "Numérique", "numérique", 999, 1),
    ("NUMA", "Numérique, un an", "numérique", 9900, 12),
    ("INT", "Intégral papier et numérique", "intégral", 3990, 1),
];
