//! How far a measurement is, for somebody who waits.

/// Characters between the brackets.
const WIDTH: usize = 20;

/// `[########------------]  16/40`: `done` of `total` steps are over.
pub(super) fn bar(done: usize, total: usize) -> String {
    let total = total.max(1);
    let filled = (WIDTH * done.min(total)) / total;
    let digits = total.to_string().len();
    format!(
        "[{}{}] {done:digits$}/{total}",
        "#".repeat(filled),
        "-".repeat(WIDTH - filled)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_the_end_and_not_before() {
        assert_eq!(bar(0, 40), "[--------------------]  0/40");
        assert_eq!(bar(16, 40), "[########------------] 16/40");
        assert_eq!(bar(39, 40), "[###################-] 39/40");
        assert_eq!(bar(40, 40), "[####################] 40/40");
        assert_eq!(bar(0, 0), "[--------------------] 0/1");
    }
}
