//! Runs one scenario, inside namespaces of its own (see [`super::inside`]).
//!
//! Holds always: the steps run in order and the first that fails ends the run, with its line; the verifier judges every
//! run whose steps were good. Each step is told as it begins, so that a run that hangs shows where.

use super::host::Host;
use super::judge::{Content, Saved, judge};
use super::net::Net;
use super::scenario::{Scenario, Step};
use super::{storm, tell};
use crate::contents::Random;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tcat::demo::verify::hash_bytes;

/// The programs that a run needs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `tcat`.
    pub tcat: PathBuf,
    /// `tcat-verify`.
    pub verify: PathBuf,
}

/// A run.
pub(super) struct Run {
    pub(super) hosts: BTreeMap<String, Host>,
    net: Net,
    saved: Saved,
    /// The folder in which catalog and objects are.
    masters: Option<PathBuf>,
    /// The folder that stands for the cloud; hosts see it, and not each other's folders.
    cloud: PathBuf,
    /// Members, in the order of joining.
    pub(super) members: Vec<String>,
}

/// Runs the scenario's steps and the verifier; the verifier's words, or one error with the step's line.
///
/// `root` becomes a disk of its own; `logs` takes what the nodes print.
pub fn run(scenario: &Scenario, programs: &Programs, root: &Path, logs: &Path) -> Result<String, String> {
    for folder in [root, logs] {
        fs::create_dir_all(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    }
    tell("mount", &["-t", "tmpfs", "tmpfs", &root.to_string_lossy()])?;
    let net = Net::build(&scenario.hosts, &scenario.delayed())?;
    let mut hosts = BTreeMap::new();
    for (index, name) in scenario.hosts.iter().enumerate() {
        let mut host = Host::new(root, logs, &programs.tcat, name, index)?;
        host.hide(scenario.hosts.iter().filter(|other| *other != name).map(|other| root.join(other)));
        hosts.insert(name.clone(), host);
    }
    let cloud = root.join("cloud");
    let mut run = Run { hosts, net, saved: Saved::default(), masters: None, cloud, members: Vec::new() };
    let start = Instant::now();
    for (line, step) in &scenario.steps {
        println!("  {:6.1}s  line {line}: {step:?}", start.elapsed().as_secs_f64());
        run.step(step).map_err(|why| format!("line {line}: {why}"))?;
    }
    println!("  {:6.1}s  verify", start.elapsed().as_secs_f64());
    run.judge(&programs.verify)
}

impl Run {
    pub(super) fn host(&mut self, name: &str) -> Result<&mut Host, String> {
        self.hosts.get_mut(name).ok_or_else(|| format!("there is no host {name:?}"))
    }

    pub(super) fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Init(name) => {
                let host = self.host(name)?;
                host.init(None)?;
                let home = host.home.clone();
                self.begin_with(name, home)
            }
            Step::InitCloud(name) => {
                let cloud = self.cloud.clone();
                fs::create_dir_all(&cloud).map_err(|why| format!("{}: {why}", cloud.display()))?;
                self.host(name)?.init(Some(&cloud))?;
                self.begin_with(name, cloud)
            }
            Step::Join(name, other) => {
                let missing = || format!("there is no host {other:?}");
                self.hosts.get(name).ok_or_else(missing)?.join(self.hosts.get(other).ok_or_else(missing)?)?;
                self.members.push(name.clone());
                self.host(name)?.start()
            }
            Step::Start(name) => self.host(name)?.start(),
            Step::Stop(name) => self.host(name)?.stop(),
            Step::Kill(name) => self.host(name)?.kill(),
            Step::Freeze(name, time) => {
                self.host(name)?.signal("STOP")?;
                thread::sleep(*time);
                self.host(name)?.signal("CONT")
            }
            Step::Sleep(name) => self.host(name)?.signal("STOP"),
            Step::Wake(name) => self.host(name)?.signal("CONT"),
            Step::Pause(time) => {
                thread::sleep(*time);
                Ok(())
            }
            Step::Settle(limit) => self.settle(*limit),
            Step::Write(host, path, size, seed) => self.write(host, path, *size, *seed),
            Step::Rename(name, from, to) => {
                let media = self.host(name)?.media.clone();
                let made = media.join(to).parent().map_or(Ok(()), fs::create_dir_all);
                made.and_then(|()| fs::rename(media.join(from), media.join(to)))
                    .map_err(|why| format!("{from} cannot be renamed to {to}: {why}"))
            }
            Step::Delete(name, path) => {
                self.host(name)?.tcat(&["delete", path], Duration::from_secs(60)).map(drop)
            }
            _ => self.fault(step),
        }
    }

    /// The first member starts.
    fn begin_with(&mut self, name: &str, masters: PathBuf) -> Result<(), String> {
        self.masters = Some(masters);
        self.members.push(name.to_owned());
        self.host(name)?.start()
    }

    /// The cloud is within everybody's reach, or nobody's.
    fn set_cloud(&mut self, on: bool) -> Result<(), String> {
        let hidden = self.cloud.with_file_name("cloud, out of reach");
        let (from, to) = if on { (&hidden, &self.cloud) } else { (&self.cloud, &hidden) };
        fs::rename(from, to).map_err(|why| format!("the cloud cannot be switched: {why}"))
    }

    fn fault(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Cut(name) => self.net.cut(name),
            Step::OneWay(from, to) => self.net.one_way(from, to),
            Step::Part(one, other) => {
                self.net.one_way(one, other).and_then(|()| self.net.one_way(other, one))
            }
            Step::Heal => self.net.heal(),
            Step::Mdns(on) => self.net.block_mdns(!on),
            Step::Rate(name, rate) => self.net.limit(name, rate),
            Step::Delay(name, by) => self.net.delay(name, *by),
            Step::Cloud(on) => self.set_cloud(*on),
            Step::Loss(name, per_mille) => self.net.lose(name, *per_mille),
            Step::Disk(name, bytes) => self.host(name)?.resize_disk(*bytes),
            Step::Clock(name, shift_s) => {
                self.host(name)?.set_clock(*shift_s);
                Ok(())
            }
            Step::Peer(name, other) => {
                let address = self.host(other)?.address.clone();
                self.host(name)?.add_peer(&address);
                Ok(())
            }
            Step::Storm(span, seed) => storm::rage(self, *span, *seed),
            _ => self.expect(step),
        }
    }

    fn expect(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Has(name, path, limit) => {
                let file = self.host(name)?.media.join(path);
                within(*limit, || Ok(file.is_file()), || format!("{name} does not have {path}"))
            }
            Step::Lacks(name, path, limit) => {
                let file = self.host(name)?.media.join(path);
                within(*limit, || Ok(!file.exists()), || format!("{name} still has {path}"))
            }
            Step::Sees(name, other, wanted, limit) => {
                let host = self.host(name)?;
                let alive = || {
                    let peers = host.status()?.peers;
                    Ok(peers.iter().any(|peer| peer.alive && peer.name == *other) == *wanted)
                };
                let verb = if *wanted { "does not hear" } else { "still hears" };
                within(*limit, alive, || format!("{name} {verb} {other}"))
            }
            Step::Versions(name, path, count) => self.versions(name, path, *count),
            _ => Err(format!("not a step: {step:?}")),
        }
    }

    /// Counts the distinct contents of the path that are under final names beside it.
    fn versions(&mut self, name: &str, path: &str, count: usize) -> Result<(), String> {
        let media = self.host(name)?.media.clone();
        let folder = media.join(path).parent().map_or(media, Path::to_path_buf);
        let wanted: Vec<&Content> = self.saved.contents.iter().filter(|it| it.path == path).collect();
        let mut found = std::collections::BTreeSet::new();
        for entry in fs::read_dir(&folder).map_err(|why| format!("{}: {why}", folder.display()))?.flatten() {
            let md5 =
                fs::read(entry.path()).map(|bytes| hexadecimal(&hash_bytes(&bytes))).unwrap_or_default();
            if wanted.iter().any(|it| it.md5 == md5) {
                found.insert(md5);
            }
        }
        if found.len() == count {
            return Ok(());
        }
        Err(format!("{name} has {} contents of {path} and not {count}", found.len()))
    }

    /// A person saves a file as careful programs do: whole under an ignored name, then renamed.
    fn write(&mut self, host: &str, path: &str, size: u64, seed: u64) -> Result<(), String> {
        let file = self.host(host)?.media.join(path);
        let size = usize::try_from(size).map_err(|why| why.to_string())?;
        let bytes = Random(seed).bytes(size);
        let folder = file.parent().ok_or("no folder")?;
        let draft = folder.join(".draft");
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&draft, &bytes))
            .and_then(|()| fs::rename(&draft, &file))
            .map_err(|why| format!("{host}: {path} cannot be saved: {why}"))?;
        let md5 = hexadecimal(&hash_bytes(&bytes));
        self.saved.contents.push(Content { path: path.into(), md5, host: host.into() });
        Ok(())
    }

    /// Asks the running members in turn, twice: what one does last may give another something to do.
    fn settle(&mut self, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        for _ in 0..2 {
            for name in self.members.clone() {
                let host = self.host(&name)?;
                if !host.is_running() {
                    continue;
                }
                let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(500));
                let timeout = format!("{}ms", left.as_millis());
                host.tcat(&["wait", "--timeout", &timeout], left + Duration::from_secs(30))?;
            }
        }
        Ok(())
    }

    /// Running members must be equal; of the others the contents count.
    fn judge(&mut self, verifier: &Path) -> Result<String, String> {
        let Some(masters) = self.masters.clone() else {
            return Err("no host made a workgroup, so there is nothing to judge".into());
        };
        self.saved.catalog = masters.join("catalog.db");
        self.saved.objects = masters.join("objects");
        for (name, host) in &mut self.hosts {
            let place = (name.clone(), host.media.clone());
            let present = host.is_running() && self.members.contains(name);
            if present { self.saved.places.push(place) } else { self.saved.away.push(place) }
        }
        judge(verifier, &self.saved)
    }
}

/// Asks until it is so, or the time is over.
fn within(
    limit: Duration,
    mut is_so: impl FnMut() -> Result<bool, String>,
    what: impl Fn() -> String,
) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    while !is_so()? {
        if Instant::now() > deadline {
            return Err(format!("{} after {limit:?}", what()));
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn hexadecimal(md5: &[u8]) -> String {
    md5.iter().map(|byte| format!("{byte:02x}")).collect()
}
