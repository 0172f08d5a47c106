//! Counting tests: reads what cargo-nextest and libtest print, so that the summary tells the truth.
//!
//! Left out: which tests they were; the runners have said that above.

/// How many tests ran, and how they ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Ended well.
    pub passed: u64,
    /// Failed, timed out or could not be started.
    pub failed: u64,
    /// Marked to be left out, or not reached.
    pub skipped: u64,
}

impl Count {
    /// How many were started.
    pub fn run(&self) -> u64 {
        self.passed + self.failed
    }

    /// Adds what `line` says, if it is a runner's summary line.
    pub fn add_line(&mut self, line: &str) {
        let found = if line.trim_start().starts_with("Summary [") {
            line.split_once("run:").map(|(_, counts)| counted(counts, ','))
        } else {
            // Indented, it is the output of one failed test that nextest repeats.
            line.strip_prefix("test result:")
                .and_then(|rest| rest.split_once(". "))
                .map(|(_, counts)| counted(counts, ';'))
        };
        if let Some(found) = found {
            self.add(found);
        }
    }

    /// Adds what `line` says, if it is the laboratory's last one: `3 passed, 0 failed, 1 skipped`.
    pub fn add_lab_line(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        if let [_, "passed,", _, "failed,", _, "skipped"] = words.as_slice() {
            self.add(counted(line, ','));
        }
    }

    /// Adds another count.
    pub fn add(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// As cargo-nextest says it.
    pub fn sentence(&self) -> String {
        let failed = if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
        format!("{} tests run: {} passed{failed}, {} skipped", self.run(), self.passed, self.skipped)
    }
}

/// Reads `4 passed (1 slow), 1 failed, 1 timed out, 2 skipped` or `3 passed; 0 failed; 1 ignored; ...`.
fn counted(text: &str, separator: char) -> Count {
    let mut count = Count::default();
    // The brackets hold commas of their own and repeat what the word before them counted.
    for part in without_brackets(text).split(separator) {
        let mut words = part.split_whitespace();
        let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else { continue };
        match words.collect::<Vec<_>>().join(" ").as_str() {
            "passed" => count.passed += number,
            "failed" | "timed out" | "exec failed" => count.failed += number,
            "skipped" | "ignored" => count.skipped += number,
            _ => {}
        }
    }
    count
}

fn without_brackets(text: &str) -> String {
    let mut depth = 0_u32;
    text.chars()
        .filter(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => return depth == 0,
            }
            false
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(lines: &[&str]) -> Count {
        let mut count = Count::default();
        lines.iter().for_each(|line| count.add_line(line));
        count
    }

    #[test]
    fn the_summary_of_nextest_is_counted() {
        let good = count(&["     Summary [   0.010s] 5 tests run: 5 passed, 2 skipped"]);
        assert_eq!(good, Count { passed: 5, failed: 0, skipped: 2 });
        let bad = count(&[
            "Summary [ 9.1s] 9/10 tests run: 5 passed (1 slow, 2 flaky), 1 failed, 2 timed out, 1 exec failed, 1 skipped",
        ]);
        assert_eq!(bad, Count { passed: 5, failed: 4, skipped: 1 });
        assert_eq!(bad.run(), 9);
    }

    #[test]
    fn the_results_of_libtest_are_added_up() {
        let result =
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        let failed = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(count(&[result, "running 3 tests", failed]), Count { passed: 4, failed: 2, skipped: 1 });
    }

    #[test]
    fn other_lines_count_nothing() {
        let repeated = "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        let lines =
            [repeated, "test a::b ... ok", "Summary of changes: 5 passed", "note: 3 tests run: 3 passed", ""];
        assert_eq!(count(&lines), Count::default());
    }

    #[test]
    fn the_laboratory_s_last_line_is_counted_and_no_other() {
        let mut count = Count::default();
        count.add_lab_line("  verified: 3 contents saved and found, 3 items");
        count.add_lab_line("3 passed, 1 failed, 2 skipped");
        assert_eq!(count, Count { passed: 3, failed: 1, skipped: 2 });
    }
}
