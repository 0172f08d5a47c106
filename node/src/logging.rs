//! What the program says of itself while it works: to the standard error, and for `tcat run` to `log/` as
//! well.
//!
//! `TCAT_LOG` chooses what is logged (`debug`, `tcat_engine=trace,info`, ...), else `-v`. The files in `log/`
//! are bounded: one a day and at most [`FILE_BYTES_MAX`] each, of which the newest [`FILES_MAX`] stay. A log
//! that cannot be written never stops the node. No line may hold a key, a token, a code or the password of a
//! URL; what logs sees to it.

use crate::output::{Failure, one_line};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// The environment variable with the filter.
pub const FILTER_VARIABLE: &str = "TCAT_LOG";
/// How large one file gets.
pub const FILE_BYTES_MAX: u64 = 8 << 20;
/// How many files stay, the current one among them.
pub const FILES_MAX: usize = 10;

/// Events of this target go to the files alone: the person is told in the program's last line.
pub const FILES_ONLY: &str = "tcat::ended";

const PREFIX: &str = "tcat-";
const SUFFIX: &str = ".log";

/// Starts logging for the whole process; later calls change nothing. `folder` is where files go, if anywhere.
pub fn start(verbose: u8, folder: Option<&Path>) -> Result<(), Failure> {
    let filter = filter(verbose, folder.is_some())?;
    let to_stderr =
        tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false).log_internal_errors(false);
    let to_stderr = to_stderr.with_filter(filter_fn(|event| event.target() != FILES_ONLY));
    let to_files = match folder {
        Some(folder) => {
            let file = RotatingFile::open(folder, FILE_BYTES_MAX).map_err(|error| {
                let what = format!("cannot log to {}", folder.display());
                Failure::new(what, error, "make the home writable, or free some space on its disk")
            })?;
            let writer = LogWriter(Mutex::new(file));
            let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
            Some(layer.log_internal_errors(false))
        }
        None => None,
    };
    if tracing_subscriber::registry().with(filter).with(to_stderr).with(to_files).try_init().is_ok() {
        // A defect of this program belongs into the files too, not only on a terminal that nobody may look
        // at.
        std::panic::set_hook(Box::new(|panic| tracing::error!("{}", one_line(&panic.to_string()))));
    }
    Ok(())
}

fn filter(verbose: u8, node: bool) -> Result<EnvFilter, Failure> {
    match std::env::var(FILTER_VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::builder().parse(&text).map_err(|error| {
            let what = format!("cannot log as {FILTER_VARIABLE}={text}");
            Failure::usage(what, error, "say for instance debug, or tcat_engine=trace,info")
        }),
        _ => {
            let level = match (verbose, node) {
                (0, false) => "warn",
                (0, true) => "info",
                (1, _) => "debug",
                _ => "trace",
            };
            let ours = ["tcat", "tcat_engine", "tcat_storage", "tcat_net", "tcat_api"];
            let directives: Vec<String> = ours.iter().map(|name| format!("{name}={level}")).collect();
            Ok(EnvFilter::new(format!("warn,{}", directives.join(","))))
        }
    }
}

/// Hands each event, whole, to the file.
struct LogWriter(Mutex<RotatingFile>);

struct Line<'a>(&'a Mutex<RotatingFile>);

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;
    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let now = jiff::Timestamp::now();
        // A thread that panicked while it held the lock leaves at worst a torn line.
        let mut file = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        file.write_event(event, now)?;
        Ok(event.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `tcat-2026-11-23-001.log` and its successors.
struct RotatingFile {
    folder: PathBuf,
    bytes_max: u64,
    day: String,
    number: u32,
    file: File,
    bytes: u64,
}

impl RotatingFile {
    fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let day = day_of(jiff::Timestamp::now());
        let number = logs(folder)?.iter().filter(|(of, _)| *of == day).map(|(_, n)| *n).max().unwrap_or(1);
        let (file, bytes) = open(&path_of(folder, &day, number))?;
        Ok(Self { folder: folder.to_owned(), bytes_max, day, number, file, bytes })
    }

    fn write_event(&mut self, event: &[u8], now: jiff::Timestamp) -> io::Result<()> {
        let day = day_of(now);
        let full = self.bytes > 0 && self.bytes + event.len() as u64 > self.bytes_max;
        if day != self.day || full {
            let number = if day == self.day { self.number.saturating_add(1) } else { 1 };
            let (file, bytes) = open(&path_of(&self.folder, &day, number))?;
            (self.day, self.number, self.file, self.bytes) = (day, number, file, bytes);
            self.forget_oldest()?;
        }
        self.file.write_all(event)?;
        self.bytes += event.len() as u64;
        Ok(())
    }

    fn forget_oldest(&self) -> io::Result<()> {
        let mut all = logs(&self.folder)?;
        all.sort();
        let surplus = all.len().saturating_sub(FILES_MAX);
        for (day, number) in all.iter().take(surplus) {
            fs::remove_file(path_of(&self.folder, day, *number))?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn day_of(now: jiff::Timestamp) -> String {
    now.strftime("%Y-%m-%d").to_string()
}

fn path_of(folder: &Path, day: &str, number: u32) -> PathBuf {
    folder.join(format!("{PREFIX}{day}-{number:03}{SUFFIX}"))
}

/// Day and number of every log file; other files in the folder are nobody's business.
fn logs(folder: &Path) -> io::Result<Vec<(String, u32)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let parts = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.rsplit_once('-'))
            .and_then(|(day, number)| Some((day.to_owned(), number.parse().ok()?)));
        found.extend(parts.filter(|(day, number)| folder.join(&name) == path_of(folder, day, *number)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> jiff::Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn logs_turn_over_by_size_and_day_and_only_the_newest_stay() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tcat-notes.log"), "mine").unwrap();
        let mut log = RotatingFile::open(folder.path(), 10).unwrap();
        for _ in 0..3 {
            log.write_event(b"12345678\n", at("2999-01-01T10:00:00Z")).unwrap();
        }
        log.write_event(b"too long for any file\n", at("2999-01-02T00:00:00Z")).unwrap();
        let mut all = logs(folder.path()).unwrap();
        all.sort();
        all.remove(0); // The file of today, opened first.
        let expected = [("2999-01-01", 1), ("2999-01-01", 2), ("2999-01-01", 3), ("2999-01-02", 1)];
        assert_eq!(all, expected.map(|(day, n)| (day.to_owned(), n)));
        for day in 10..28 {
            log.write_event(b"x\n", at(&format!("2999-02-{day}T00:00:00Z"))).unwrap();
        }
        assert_eq!(logs(folder.path()).unwrap().len(), FILES_MAX);
        assert!(folder.path().join("tcat-2999-02-27-001.log").exists());
        assert!(folder.path().join("tcat-notes.log").exists(), "what is not a log of ours is left alone");
    }

    #[test]
    fn a_restart_goes_on_in_the_newest_file_of_the_day() {
        let folder = tempfile::tempdir().unwrap();
        let day = day_of(jiff::Timestamp::now());
        for number in 1..=2 {
            fs::write(path_of(folder.path(), &day, number), "old\n").unwrap();
        }
        let mut log = RotatingFile::open(folder.path(), 100).unwrap();
        log.write_event(b"new\n", jiff::Timestamp::now()).unwrap();
        let newest = logs(folder.path()).unwrap().into_iter().max().unwrap();
        let text = fs::read_to_string(path_of(folder.path(), &newest.0, newest.1)).unwrap();
        assert!(text.ends_with("new\n"));
    }
}
