//! "Did you mean ...": the nearest of a few known words.

/// The candidate nearest to `found`, if it is near enough to be a typing error, at most a
/// third of the letters wrong, or begins with it.
pub(super) fn nearest<'a>(
    found: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A longer word is no typing error, and would cost time quadratic in its length.
    if found.chars().count() > 64 {
        return None;
    }
    let found = normalised(found);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let word = normalised(candidate);
            let distance = distance(&found, &word);
            let typing_error = distance <= word.len().div_ceil(3);
            let cut_short = found.len() >= 3 && word.starts_with(&found);
            (typing_error || cut_short).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Upper case, underscores and hyphens are the commonest slips.
fn normalised(word: &str) -> Vec<char> {
    word.to_lowercase().replace('-', "_").chars().collect()
}

/// Levenshtein distance, with two neighbours exchanged counted as one slip.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, &to) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX);
            let replaced = at(&last, j) + usize::from(from != to);
            let dropped = at(&last, j + 1) + 1;
            let added = at(&row, j) + 1;
            let mut best = replaced.min(dropped).min(added);
            let exchanged =
                i > 0 && j > 0 && a.get(i - 1) == Some(&to) && b.get(j - 1) == Some(&from);
            if exchanged {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(word: &str) -> Vec<char> {
        word.chars().collect()
    }

    #[test]
    fn distances() {
        let of = |a: &str, b: &str| distance(&letters(a), &letters(b));
        assert_eq!(of("", ""), 0);
        assert_eq!(of("", "abc"), 3);
        assert_eq!(of("kitten", "sitting"), 3);
        assert_eq!(of("lifetiem", "lifetime"), 1);
    }

    #[test]
    fn typing_errors_find_their_word() {
        let keys = ["proposals", "lifetime", "lifetime_kilobytes"];
        assert_eq!(nearest("lifetme", keys), Some("lifetime"));
        assert_eq!(
            nearest("Lifetime-Kilobytes", keys),
            Some("lifetime_kilobytes")
        );
        assert_eq!(nearest("proposal", keys), Some("proposals"));
        assert_eq!(nearest("lifetime_kilo", keys), Some("lifetime_kilobytes"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest(&"lifetime".repeat(1000), keys), None);
    }
}
