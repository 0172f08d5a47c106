//! A storm: random saves and random faults for a while, all from one seed, and then calm.
//!
//! Holds always: the choices follow from the seed alone (their times do not); at most one host fewer than there are is
//! dead or frozen at a time; when the storm is over all wires are whole and all members run. A person never destroys a
//! content alone: a file is saved over only while another host has the same content, so nothing may be lost.

use super::run::Run;
use super::scenario::Step;
use crate::contents::Random;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// The longest freeze, in seconds: around the lease.
const FREEZE_MAX_S: u64 = 12;
/// The largest file, in bytes.
const FILE_MAX: u64 = 3 << 20;

/// What goes on.
struct Storm<'a> {
    run: &'a mut Run,
    random: Random,
    members: Vec<String>,
    frozen: Vec<(String, Instant)>,
    /// Paths that were saved so far, and so many saves.
    paths: Vec<String>,
    saves: u64,
}

/// Rages for so long, then calms.
pub fn rage(run: &mut Run, span: Duration, seed: u64) -> Result<(), String> {
    let members = run.members.clone();
    let mut storm =
        Storm { run, random: Random(seed), members, frozen: Vec::new(), paths: Vec::new(), saves: 0 };
    let end = Instant::now() + span;
    while Instant::now() < end {
        storm.thaw(Instant::now())?;
        storm.event()?;
        thread::sleep(Duration::from_millis(100 + storm.random.below(900)));
    }
    storm.calm()
}

impl Storm<'_> {
    fn event(&mut self) -> Result<(), String> {
        let host = self.pick();
        let other = self.pick();
        match self.random.below(20) {
            0..8 => self.save(host),
            8..11 => self.save_over(host),
            11 | 12 if self.may_fail(&host) => self.act(Step::Kill(host)),
            13 if self.may_fail(&host) => {
                let until = Instant::now() + Duration::from_secs(1 + self.random.below(FREEZE_MAX_S));
                println!("          freeze {host}");
                self.run.host(&host)?.signal("STOP")?;
                self.frozen.push((host, until));
                Ok(())
            }
            14 => self.act(Step::Cut(host)),
            15 if host != other => self.act(Step::OneWay(host, other)),
            16 => self.act(Step::Loss(host, 100)),
            17 => self.act(Step::Heal),
            _ if !self.run.host(&host)?.is_running() => self.act(Step::Start(host)),
            _ => Ok(()),
        }
    }

    fn pick(&mut self) -> String {
        let index = self.random.below(self.members.len() as u64);
        usize::try_from(index).ok().and_then(|index| self.members.get(index).cloned()).unwrap_or_default()
    }

    /// Whether the host works and is not the last one that does.
    fn may_fail(&mut self, host: &str) -> bool {
        let frozen: Vec<&String> = self.frozen.iter().map(|(name, _)| name).collect();
        let mut working = Vec::new();
        for name in &self.members {
            let running = self.run.hosts.get_mut(name).is_some_and(super::host::Host::is_running);
            if running && !frozen.contains(&name) {
                working.push(name.as_str());
            }
        }
        working.len() > 1 && working.contains(&host)
    }

    fn act(&mut self, step: Step) -> Result<(), String> {
        println!("          {step:?}");
        self.run.step(&step)
    }

    /// A person saves a new file.
    fn save(&mut self, host: String) -> Result<(), String> {
        let path = format!("storm {}/{}.jpg", self.saves % 5, self.saves);
        self.paths.push(path.clone());
        self.write(host, path)
    }

    /// A person saves over a file that another host has as well.
    fn save_over(&mut self, host: String) -> Result<(), String> {
        let index = usize::try_from(self.random.below(self.paths.len() as u64)).unwrap_or_default();
        let Some(path) = self.paths.get(index).cloned() else { return Ok(()) };
        let Ok(own) = fs::read(self.run.host(&host)?.media.join(&path)) else { return Ok(()) };
        let others = self.run.hosts.values().filter(|other| other.name != host);
        let shared =
            others.into_iter().any(|other| fs::read(other.media.join(&path)).is_ok_and(|it| it == own));
        if shared { self.write(host, path) } else { Ok(()) }
    }

    fn write(&mut self, host: String, path: String) -> Result<(), String> {
        self.saves += 1;
        let size = 1 + self.random.below(FILE_MAX);
        let seed = self.random.number();
        self.act(Step::Write(host, path, size, seed))
    }

    fn thaw(&mut self, now: Instant) -> Result<(), String> {
        let (over, frozen) =
            std::mem::take(&mut self.frozen).into_iter().partition(|(_, until)| *until <= now);
        self.frozen = frozen;
        let over: Vec<(String, Instant)> = over;
        for (host, _) in over {
            println!("          thaw {host}");
            self.run.host(&host)?.signal("CONT")?;
        }
        Ok(())
    }

    fn calm(&mut self) -> Result<(), String> {
        self.act(Step::Heal)?;
        self.thaw(Instant::now() + Duration::from_secs(FREEZE_MAX_S + 1))?;
        for host in self.members.clone() {
            if !self.run.host(&host)?.is_running() {
                self.act(Step::Start(host))?;
            }
        }
        Ok(())
    }
}
