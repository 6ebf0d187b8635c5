//! Padmé: sizes that leak at most O(log log L) bits, at a cost of at most 12 %.
//! Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with
//! PURBs", PETS 2019, section 4.

/// The smallest Padmé size that is at least `length`.
pub(crate) fn padded(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    let exponent = length.ilog2();
    let significant = exponent.ilog2() + 1;
    let mask = (1u64 << (exponent - significant.min(exponent))) - 1;
    (length + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_sizes() {
        // E = floor(log2 L), S = floor(log2 E) + 1, round up to 2^(E-S).
        assert_eq!(padded(0), 0);
        assert_eq!(padded(9), 10);
        assert_eq!(padded(100), 104);
        assert_eq!(padded(1000), 1024);
        assert_eq!(padded(1_000_000), 1_015_808);
    }

    proptest! {
        #[test]
        fn never_smaller_and_at_most_twelve_percent_more(length in 0u64..1 << 40) {
            let padded_length = padded(length);
            prop_assert!(padded_length >= length);
            prop_assert!(padded_length - length <= length * 12 / 100 + 1);
            prop_assert_eq!(padded(padded_length), padded_length);
        }
    }
}
