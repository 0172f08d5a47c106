//! `tcat status`: how things stand, for people or as JSON, once or until interrupted.

use super::Context;
use crate::output::{self, Failure, clean, one_line, size, span, table};
use std::io::IsTerminal;
use std::time::Duration;
use tcat_api::types::{HostStatus, PeerStatus, Status, TaskStatus};

/// Between two looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// More tasks than these are only counted.
const TASKS_SHOWN_MAX: usize = 20;

/// The arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Look again every second, until interrupted
    #[arg(long)]
    pub watch: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    const WHAT: &str = "cannot show the status";
    let client = context.client(WHAT)?;
    loop {
        let status = client.status().map_err(|error| Failure::of_client(WHAT, &error))?;
        match (context.global.json, args.watch) {
            (true, false) => output::say_json(&status)?,
            // One object a line, so that a reader knows where each ends.
            (true, true) => output::say(&serde_json::to_string(&status).map_err(Failure::of)?)?,
            (false, _) => output::say(&page(&status, args.watch))?,
        }
        if !args.watch {
            return Ok(());
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

/// The report; on a terminal that watches, it takes the place of the one before.
fn page(status: &Status, watch: bool) -> String {
    match (watch, std::io::stdout().is_terminal()) {
        (true, true) => format!("\u{1b}[H\u{1b}[2J{}", report(status)),
        (true, false) => report(status) + "\n",
        (false, _) => report(status),
    }
}

fn report(status: &Status) -> String {
    let (client, workgroup) = (&status.client, &status.workgroup);
    let short = client.id.get(..8).unwrap_or(&client.id);
    let state = match (status.brake, status.settled) {
        (true, _) => "held by the brake: a person must decide",
        (false, true) => "settled",
        (false, false) => "working",
    };
    let mut lines = vec![
        format!("{} ({short}) in {}: {state}", clean(&client.name), clean(&workgroup.name)),
        String::new(),
        media_lines(status),
        host_line(status.host.as_ref()),
        String::new(),
        peer_lines(&status.peers),
    ];
    if !status.tasks.is_empty() {
        lines.push(String::new());
        lines.push(task_lines(&status.tasks));
    }
    lines.join("\n")
}

fn media_lines(status: &Status) -> String {
    let (media, bytes) = (&status.media, &status.bytes);
    let counts = [
        ("uploading", media.uploading),
        ("downloading", media.downloading),
        ("conflict", media.conflict),
        ("missing", media.missing),
        ("parked", media.parked),
    ];
    let mut items = format!("items    {} of {} settled", media.settled, media.total);
    for (name, count) in counts.iter().filter(|(_, count)| *count > 0) {
        items += &format!(", {count} {name}");
    }
    let network = format!(
        "network  members {} in, {} out; object store {} in ({} contents), {} out",
        size(bytes.lan_in),
        size(bytes.lan_out),
        size(bytes.cloud_in),
        status.cloud_fetches,
        size(bytes.cloud_out)
    );
    format!("{items}\n{network}")
}

fn host_line(host: Option<&HostStatus>) -> String {
    match host {
        None => "host     none is known, or none is needed".to_owned(),
        Some(HostStatus { me: true, .. }) => "host     this node".to_owned(),
        Some(HostStatus { name, reachable: true, .. }) => format!("host     {}", clean(name)),
        Some(HostStatus { name, .. }) => format!(
            "host     {} is out of reach: edits wait for it, or for `tcat promote` on another member",
            clean(name)
        ),
    }
}

fn peer_lines(peers: &[PeerStatus]) -> String {
    if peers.is_empty() {
        return "no other members yet: `tcat invite` prints a code for one".to_owned();
    }
    let mut rows = vec![["member", "state", "heard", "behind by"].map(str::to_owned).to_vec()];
    for peer in peers {
        let heard =
            peer.last_contact_ms.map_or("never".to_owned(), |ms| span(Duration::from_millis(ms)) + " ago");
        let state = if peer.alive { "live" } else { "absent" };
        let state = match peer.refusals.values().sum::<u64>() {
            0 => state.to_owned(),
            count => format!("{state}, refused {count} times"),
        };
        let behind = if peer.lag == 0 { "-".to_owned() } else { format!("{} entries", peer.lag) };
        rows.push(vec![peer.name.clone(), state, heard, behind]);
    }
    table(&rows)
}

fn task_lines(tasks: &[TaskStatus]) -> String {
    let mut rows = vec![["task", "item", "state", "progress", "last error"].map(str::to_owned).to_vec()];
    for task in tasks.iter().take(TASKS_SHOWN_MAX) {
        let progress = match task.total_bytes {
            Some(total) => format!("{} of {}", size(task.done_bytes), size(total)),
            None => size(task.done_bytes),
        };
        let error = task.error.as_deref().map(one_line).unwrap_or_default();
        rows.push(vec![task.kind.clone(), task.item.clone(), task.state.clone(), progress, error]);
    }
    let more = tasks.len().saturating_sub(TASKS_SHOWN_MAX);
    let tail = if more > 0 { format!("\nand {more} more tasks") } else { String::new() };
    table(&rows) + &tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcat_api::types::{ByteCounts, ClientStatus, MediaCounts, WorkgroupStatus};

    fn busy() -> Status {
        Status {
            client: ClientStatus { id: "a7a7a7a7a7a7".into(), name: "anna".into(), incarnation: 1 },
            workgroup: WorkgroupStatus { id: "w".into(), name: "films".into(), clock: 4 },
            peers: vec![PeerStatus {
                name: "ben".into(),
                alive: true,
                last_contact_ms: Some(800),
                lag: 3,
                id: "b".into(),
                ..Default::default()
            }],
            media: MediaCounts { total: 12, settled: 10, downloading: 2, ..Default::default() },
            tasks: vec![TaskStatus {
                kind: "download".into(),
                item: "1".into(),
                state: "running".into(),
                done_bytes: 500,
                total_bytes: Some(2000),
                ..Default::default()
            }],
            bytes: ByteCounts { lan_in: 1000, ..Default::default() },
            cloud_fetches: 1,
            ..Default::default()
        }
    }

    #[test]
    fn a_person_sees_who_what_and_how_far() {
        let text = report(&busy());
        assert_eq!(text.lines().next(), Some("anna (a7a7a7a7) in films: working"));
        assert!(text.contains("items    10 of 12 settled, 2 downloading\n"), "{text}");
        assert!(text.contains("object store 0 B in (1 contents)"), "{text}");
        assert!(text.contains("ben     live   800 ms ago  3 entries"), "{text}");
        assert!(text.contains("download  1     running  500 B of 2.0 kB"), "{text}");
    }

    #[test]
    fn a_person_sees_who_is_host_and_what_to_do_where_it_is_out_of_reach() {
        let mut host = HostStatus { name: "ben".into(), reachable: true, ..Default::default() };
        assert_eq!(host_line(Some(&host)), "host     ben");
        host.reachable = false;
        assert!(host_line(Some(&host)).contains("ben is out of reach"));
        host.me = true;
        assert_eq!(host_line(Some(&host)), "host     this node");
        assert!(report(&Status::default()).contains("host     none"));
    }

    #[test]
    fn a_lone_member_is_told_how_to_invite_and_a_held_brake_comes_first() {
        let text = report(&Status { brake: true, settled: true, ..Default::default() });
        assert!(text.contains("held by the brake") && text.contains("tcat invite"), "{text}");
    }
}
