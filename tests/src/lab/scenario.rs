//! The language of scenarios: one step a line, read as a sentence.
//!
//! Holds always: a file is read whole before anything runs; an unknown word, host or number is an error that names the
//! file and the line; nothing is guessed. `#` begins a comment; a text in double quotes may hold spaces.

use std::collections::BTreeSet;
use std::time::Duration;

/// A host's name is part of an interface's name, of which Linux takes 15 bytes.
const HOST_NAME_MAX: usize = 10;
/// More hosts than two cores can run.
const HOSTS_MAX: usize = 12;
/// The largest file that a scenario writes, in bytes.
const FILE_MAX: u64 = 256 << 20;
/// The longest wait in a scenario.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// A scenario, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scenario {
    /// Its hosts, in the order of their addresses.
    pub hosts: Vec<String>,
    /// Whether it is part of the short pass.
    pub smoke: bool,
    /// Why it fails today, if that is known: a flaw that is still open.
    pub open: Option<String>,
    /// What happens, each with its line.
    pub steps: Vec<(usize, Step)>,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The host makes the workgroup, keeps its catalog and objects, and starts.
    Init(String),
    /// The same, with catalog and objects in a cloud that each host reaches by itself.
    InitCloud(String),
    /// The host joins by an invitation of the other, and starts.
    Join(String, String),
    /// The host's node starts.
    Start(String),
    /// SIGTERM; the node must end cleanly.
    Stop(String),
    /// SIGKILL.
    Kill(String),
    /// SIGSTOP for so long, then SIGCONT.
    Freeze(String, Duration),
    /// SIGSTOP.
    Sleep(String),
    /// SIGCONT.
    Wake(String),
    /// A person saves a file of so many bytes that follow from the seed.
    Write(String, String, u64, u64),
    /// A person renames a file.
    Rename(String, String, String),
    /// `tcat delete`: everywhere, into trash.
    Delete(String, String),
    /// Nothing happens.
    Pause(Duration),
    /// All running hosts say within the time that nothing is left to do.
    Settle(Duration),
    /// The wire is pulled.
    Cut(String),
    /// Nothing goes from the first to the second.
    OneWay(String, String),
    /// Nothing goes between the two.
    Part(String, String),
    /// All wires are whole again.
    Heal,
    /// mDNS passes or is dropped.
    Mdns(bool),
    /// The wire carries no more than this, as tc writes it.
    Rate(String, String),
    /// Per mille of the host's frames that are lost.
    Loss(String, u32),
    /// All that the host sends and gets is so late.
    Delay(String, Duration),
    /// Everybody reaches the cloud, or nobody.
    Cloud(bool),
    /// The media folder's disk has so many bytes.
    Disk(String, u64),
    /// The host's wall clock is off by so many seconds.
    Clock(String, i64),
    /// Random saves and faults for so long, from a seed; at its end all is whole and runs.
    Storm(Duration, u64),
    /// The host calls the other at its address, whether mDNS finds it or not; from its next start on.
    Peer(String, String),
    /// The host has a file of this path within the time.
    Has(String, String, Duration),
    /// The host has no file of this path (any more) within the time.
    Lacks(String, String, Duration),
    /// The host hears the other, or hears it no more, within the time.
    Sees(String, String, bool, Duration),
    /// So many distinct contents that were saved at the path, or beside it as versions, are under final names.
    Versions(String, String, usize),
}

impl Scenario {
    /// The hosts whose wires delay at some time.
    pub fn delayed(&self) -> BTreeSet<String> {
        let host = |step: &Step| if let Step::Delay(host, _) = step { Some(host.clone()) } else { None };
        self.steps.iter().filter_map(|(_, step)| host(step)).collect()
    }
}

/// Reads a scenario; the error is one line that begins with `file:line`.
pub fn parse(file: &str, text: &str) -> Result<Scenario, String> {
    let mut scenario = Scenario::default();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let at = |why: String| format!("{file}:{number}: {why}");
        let words = split(line).map_err(at)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => {}
            ["smoke"] => scenario.smoke = true,
            ["open", why] => scenario.open = Some((*why).to_owned()),
            ["hosts", hosts @ ..] => set_hosts(&mut scenario, hosts).map_err(at)?,
            words => {
                let step = Reader { hosts: &scenario.hosts }.step(words).map_err(at)?;
                scenario.steps.push((number, step));
            }
        }
    }
    if scenario.hosts.is_empty() {
        return Err(format!("{file}:1: no hosts; begin with a line such as `hosts anna ben`"));
    }
    Ok(scenario)
}

fn set_hosts(scenario: &mut Scenario, hosts: &[&str]) -> Result<(), String> {
    if !scenario.hosts.is_empty() {
        return Err("the hosts are named already".into());
    }
    for host in hosts {
        let good = (1..=HOST_NAME_MAX).contains(&host.len()) && host.bytes().all(|b| b.is_ascii_lowercase());
        if !good || scenario.hosts.iter().any(|other| other == host) {
            return Err(format!(
                "{host:?} is no name for a host: 1 to {HOST_NAME_MAX} small letters, each name once"
            ));
        }
        scenario.hosts.push((*host).to_owned());
    }
    if hosts.is_empty() || hosts.len() > HOSTS_MAX {
        return Err(format!("{} hosts; there can be 1 to {HOSTS_MAX}", hosts.len()));
    }
    Ok(())
}

/// The words of a line, without its comment.
fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a quotation mark is not closed")?,
            None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Ok(words)
}

/// Reads steps, given the hosts that there are.
struct Reader<'a> {
    hosts: &'a [String],
}

impl Reader<'_> {
    fn step(&self, words: &[&str]) -> Result<Step, String> {
        Ok(match *words {
            [host, "init"] => Step::Init(self.host(host)?),
            [host, "init", "in", "cloud"] => Step::InitCloud(self.host(host)?),
            [host, "join", other] => Step::Join(self.host(host)?, self.host(other)?),
            ["start", host] => Step::Start(self.host(host)?),
            ["stop", host] => Step::Stop(self.host(host)?),
            ["kill", host] => Step::Kill(self.host(host)?),
            ["freeze", host, time] => Step::Freeze(self.host(host)?, span(time)?),
            ["sleep", host] => Step::Sleep(self.host(host)?),
            ["wake", host] => Step::Wake(self.host(host)?),
            ["write", host, path, size, "seed", seed] => {
                Step::Write(self.host(host)?, below(path)?, bytes(size)?, number(seed)?)
            }
            ["rename", host, from, to] => Step::Rename(self.host(host)?, below(from)?, below(to)?),
            ["delete", host, path] => Step::Delete(self.host(host)?, below(path)?),
            ["pause", time] => Step::Pause(span(time)?),
            ["settle", time] => Step::Settle(span(time)?),
            ["expect", ref what @ ..] => self.expect(what)?,
            _ => self.fault(words)?,
        })
    }

    fn fault(&self, words: &[&str]) -> Result<Step, String> {
        Ok(match *words {
            ["cut", host] => Step::Cut(self.host(host)?),
            ["oneway", from, to] => Step::OneWay(self.host(from)?, self.host(to)?),
            ["part", one, other] => Step::Part(self.host(one)?, self.host(other)?),
            ["heal"] => Step::Heal,
            ["mdns", "off"] => Step::Mdns(false),
            ["mdns", "on"] => Step::Mdns(true),
            ["rate", host, rate] => Step::Rate(self.host(host)?, mbit(rate)?),
            ["delay", host, time] => Step::Delay(self.host(host)?, span(time)?),
            ["cloud", "off"] => Step::Cloud(false),
            ["cloud", "on"] => Step::Cloud(true),
            ["loss", host, share] => Step::Loss(self.host(host)?, per_mille(share)?),
            ["disk", host, size] => Step::Disk(self.host(host)?, bytes(size)?),
            ["clock", host, shift] => Step::Clock(self.host(host)?, seconds(shift)?),
            ["storm", time, "seed", seed] => Step::Storm(span(time)?, number(seed)?),
            ["peer", host, other] => Step::Peer(self.host(host)?, self.host(other)?),
            _ => return Err(format!("no such step: {:?}; docs/laboratory.md lists them", words.join(" "))),
        })
    }

    fn expect(&self, words: &[&str]) -> Result<Step, String> {
        let host = *words.first().ok_or("expect what?")?;
        let host = self.host(host)?;
        Ok(match words[1..] {
            ["has", path, "within", time] => Step::Has(host, below(path)?, span(time)?),
            ["lacks", path, "within", time] => Step::Lacks(host, below(path)?, span(time)?),
            ["sees", other, "within", time] => Step::Sees(host, self.host(other)?, true, span(time)?),
            ["misses", other, "within", time] => Step::Sees(host, self.host(other)?, false, span(time)?),
            ["versions", path, count] => {
                let count = usize::try_from(number(count)?).map_err(|_| "too many".to_owned())?;
                Step::Versions(host, below(path)?, count)
            }
            _ => {
                return Err(format!(
                    "no such expectation: {:?}; docs/laboratory.md lists them",
                    words.join(" ")
                ));
            }
        })
    }

    fn host(&self, name: &str) -> Result<String, String> {
        if self.hosts.iter().any(|host| host == name) {
            return Ok(name.to_owned());
        }
        Err(format!("there is no host {name:?}; the hosts are {}", self.hosts.join(", ")))
    }
}

/// A path in a media folder.
fn below(path: &str) -> Result<String, String> {
    let good =
        !path.is_empty() && path.split('/').all(|part| !part.is_empty() && part != ".." && part != ".");
    if good { Ok(path.to_owned()) } else { Err(format!("{path:?} is no path below a media folder")) }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no whole number"))
}

fn bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no size such as 500, 64k or 2M, at most {} MiB", FILE_MAX >> 20);
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    let size = digits.parse::<u64>().ok().and_then(|size| size.checked_mul(1 << shift));
    size.filter(|size| *size <= FILE_MAX).ok_or_else(bad)
}

fn span(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no time such as 500ms, 20s or 2m, at most 10m");
    let time = tcat::cli::parse_span(text).map_err(|_| bad())?;
    if time <= WAIT_MAX && text.ends_with(|end: char| end.is_ascii_alphabetic()) {
        Ok(time)
    } else {
        Err(bad())
    }
}

/// A shift of the clock, in seconds.
fn seconds(text: &str) -> Result<i64, String> {
    let bad = || format!("{text:?} is no shift such as +1h or -90s, at most a day");
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(bad()),
    };
    let time = tcat::cli::parse_span(rest).map_err(|_| bad())?;
    i64::try_from(time.as_secs()).map(|seconds| sign * seconds).map_err(|_| bad())
}

fn mbit(text: &str) -> Result<String, String> {
    let digits = text.strip_suffix("mbit").and_then(|digits| digits.parse::<u32>().ok());
    match digits {
        Some(1..=10_000) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no rate such as 8mbit")),
    }
}

fn per_mille(text: &str) -> Result<u32, String> {
    let percent = text.strip_suffix('%').and_then(|digits| digits.parse::<u32>().ok());
    match percent {
        Some(percent @ 0..=100) => Ok(percent * 10),
        _ => Err(format!("{text:?} is no share such as 5%")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<Step, String> {
        parse("x.lab", &format!("hosts anna ben\n{line}\n")).map(|scenario| scenario.steps[0].1.clone())
    }

    #[test]
    fn a_scenario_is_read_with_its_lines() {
        let text =
            "# why\nsmoke\nhosts anna ben\n\nanna init # first\nwrite anna \"2024/a b.jpg\" 2M seed 7\n";
        let scenario = parse("x.lab", text).unwrap();
        assert!(scenario.smoke && scenario.open.is_none());
        assert_eq!(scenario.hosts, ["anna", "ben"]);
        let write = Step::Write("anna".into(), "2024/a b.jpg".into(), 2 << 20, 7);
        assert_eq!(scenario.steps, [(5, Step::Init("anna".into())), (6, write)]);
    }

    #[test]
    fn sizes_times_rates_and_shifts_have_units() {
        let ben = || "ben".to_owned();
        assert_eq!(one("freeze ben 1500ms"), Ok(Step::Freeze(ben(), Duration::from_millis(1500))));
        assert_eq!(one("clock ben -90s"), Ok(Step::Clock(ben(), -90)));
        assert_eq!(one("clock ben +1h"), Ok(Step::Clock(ben(), 3600)));
        assert_eq!(one("loss ben 5%"), Ok(Step::Loss(ben(), 50)));
        assert_eq!(one("rate ben 8mbit"), Ok(Step::Rate(ben(), "8mbit".into())));
        assert_eq!(one("delay ben 80ms"), Ok(Step::Delay(ben(), Duration::from_millis(80))));
        assert_eq!(one("disk ben 64k"), Ok(Step::Disk(ben(), 65536)));
        let sees = Step::Sees(ben(), "anna".into(), false, Duration::from_secs(5));
        assert_eq!(one("expect ben misses anna within 5s"), Ok(sees));
    }

    #[test]
    fn what_is_not_known_is_an_error_that_names_file_and_line() {
        for (line, why) in [
            ("explode ben", "no such step: \"explode ben\""),
            ("kill carl", "there is no host \"carl\"; the hosts are anna, ben"),
            ("pause 5", "is no time"),
            ("pause 11m", "is no time"),
            ("write ben ../x 1k seed 1", "is no path below"),
            ("write ben x 300M seed 1", "is no size"),
            ("write ben x 1k seed -1", "is no whole number"),
            ("write ben \"x 1k seed 1", "not closed"),
            ("clock ben 1h", "is no shift"),
            ("loss ben 101%", "is no share"),
            ("rate ben fast", "is no rate"),
            ("expect", "expect what?"),
            ("expect ben dances", "no such expectation"),
            ("hosts carl", "named already"),
        ] {
            let said = one(line).unwrap_err();
            assert!(said.starts_with("x.lab:2: ") && said.contains(why), "{line}: {said}");
        }
        assert!(parse("x.lab", "anna init").unwrap_err().starts_with("x.lab:1: there is no host"));
        assert!(parse("x.lab", "").unwrap_err().contains("no hosts"));
        assert!(parse("x.lab", "hosts Anna").unwrap_err().contains("is no name for a host"));
        assert!(parse("x.lab", "hosts anna anna").unwrap_err().contains("each name once"));
    }
}
