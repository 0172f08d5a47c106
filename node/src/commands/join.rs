//! `tcat join`: becomes a member of a workgroup with a code from `tcat invite`. No local node needs to run.
//!
//! What can be checked is checked before the code is tried, since it is good for one attempt. From then on the identity stays,
//! whatever happens, because the workgroup knows it: the same code works again for it, and for nobody else.

use super::Context;
use super::setup::{First, Setup};
use crate::config::{WorkgroupConfig, check_peer};
use crate::host::wire::PEER_URL;
use crate::output::{self, Failure};
use crate::ticket::Ticket;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;
use tcat_engine::ids::WorkgroupId;
use tcat_net::{InviteCode, JoinRequest, PeerAddress, join};
use tcat_storage::catalog;
use tcat_storage::objects::Objects;

const WHAT: &str = "cannot join";
/// How long the inviter may take.
const ANSWER: Duration = Duration::from_secs(30);

/// The arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The code that `tcat invite` printed on a member: a number and three words
    #[arg(value_name = "CODE")]
    pub code: String,
    /// This machine's folder for the library: an existing one, with or without files in it
    #[arg(long, value_name = "DIR")]
    pub media: PathBuf,
    /// What this machine is called in the workgroup [default: its host name]
    #[arg(long, value_name = "CLIENT")]
    pub name: Option<String>,
    /// Where that member is reached, HOST:PORT, if it is not to be found by mDNS (repeatable)
    #[arg(long, value_name = "ADDR")]
    pub peer: Vec<String>,
}

/// What was joined, as `--json` prints it.
#[derive(Serialize)]
struct Joined<'a> {
    home: String,
    client: String,
    name: &'a str,
    workgroup: &'a str,
    workgroup_id: &'a str,
    media: String,
    catalog: &'a str,
    objects: &'a str,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    for peer in &args.peer {
        check_peer(peer).map_err(|why| Failure::usage(WHAT, why, "write --peer HOST:PORT"))?;
    }
    let code = InviteCode::parse(&args.code).map_err(|error| Failure::of(format!("{WHAT}: {error}")))?;
    let mut setup = Setup::begin(context, WHAT, &args.media)?;
    let name = setup.wanted_name(args.name.as_deref())?;
    let ticket = super::block_on(ask(context, &setup, &code, &args.peer, &name))??;
    let identity_file = setup.home.identity_file();
    setup.undo.keep_file(&identity_file);
    refuse_member(&setup, ticket.workgroup)?;
    check_ticket(context, &ticket)?;
    let group = WorkgroupConfig {
        id: ticket.workgroup.to_string(),
        name: ticket.name.clone(),
        media: setup.media.clone(),
        catalog: ticket.catalog.clone(),
        objects: ticket.objects.clone(),
    };
    let member = super::block_on(reach_stores(&setup, &ticket))??;
    setup.take_media_folder(ticket.workgroup)?;
    let first = First { name: &member, interfaces: &context.global.interface, peers: &args.peer };
    let client = setup.client().to_string();
    let further = setup.existing.is_some();
    setup.finish(&group, &ticket.keys, &first)?;
    let joined = Joined {
        home: context.home.root().display().to_string(),
        client,
        name: &member,
        workgroup: &group.name,
        workgroup_id: &group.id,
        media: group.media.display().to_string(),
        catalog: &group.catalog,
        objects: &group.objects,
    };
    tell(context, &joined, if further { &args.peer } else { &[] })
}

fn refuse_member(setup: &Setup, workgroup: WorkgroupId) -> Result<(), Failure> {
    let groups = setup.existing.iter().flat_map(|config| &config.workgroups);
    let mut joined = groups.filter(|group| group.workgroup_id().is_ok_and(|id| id == workgroup));
    match joined.next() {
        None => Ok(()),
        Some(group) => {
            let why = format!("this home is a member of the workgroup {} already", group.name);
            Err(Failure::new(WHAT, why, "start it with `tcat run`, or name another home with --home"))
        }
    }
}

/// Asks whoever gave out the code, at the addresses given or wherever mDNS finds it.
async fn ask(
    context: &Context,
    setup: &Setup,
    code: &InviteCode,
    peers: &[String],
    name: &str,
) -> Result<Ticket, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::of(format!("{WHAT}: {error}"));
    let addresses: Result<Vec<PeerAddress>, _> = peers.iter().map(|peer| peer.parse()).collect();
    let request = JoinRequest {
        code: code.clone(),
        addresses: addresses.map_err(|error| failed(&error))?,
        interfaces: context.global.interface.clone(),
        name: name.to_owned(),
        timeout: ANSWER,
    };
    let answer = join(&setup.identity, &request).await.map_err(|error| failed(&error))?;
    Ticket::decode(&answer).map_err(|error| failed(&error))
}

fn check_ticket(context: &Context, ticket: &Ticket) -> Result<(), Failure> {
    match &context.global.workgroup {
        Some(wanted) if *wanted != ticket.name => {
            let why = format!("the code is for the workgroup {:?}, not for {wanted:?}", ticket.name);
            Err(Failure::new(WHAT, why, "leave out --workgroup, or use a code of that workgroup"))
        }
        _ => Ok(()),
    }
}

/// Refuses a workgroup whose catalog or objects are out of this machine's reach; returns our name in its
/// roster.
async fn reach_stores(setup: &Setup, ticket: &Ticket) -> Result<String, Failure> {
    let failed = |which: &str, error: &dyn std::fmt::Display| {
        let what =
            format!("{WHAT}: this machine does not reach the {which} of the workgroup {}", ticket.name);
        Failure::of(format!("{what}: {error}"))
    };
    if ticket.objects != PEER_URL {
        let objects = Objects::open(&ticket.objects).map_err(|error| failed("objects", &error))?;
        objects.check().await.map_err(|error| failed("objects", &error))?;
    }
    if ticket.catalog == PEER_URL {
        // A member, who was just reached, has entered us in it.
        return Ok(ticket.client_name.clone());
    }
    let catalog = catalog::open(&ticket.catalog, Some(ticket.workgroup)).await;
    let catalog = catalog.map_err(|error| failed("catalog", &error))?;
    catalog.check().await.map_err(|error| failed("catalog", &error))?;
    let member = catalog.admit(setup.client(), &ticket.client_name).await;
    catalog.close().await;
    Ok(member.map_err(|error| failed("catalog", &error))?.name)
}

fn tell(context: &Context, joined: &Joined<'_>, unsaved_peers: &[String]) -> Result<(), Failure> {
    if context.global.json {
        return output::say_json(joined);
    }
    let rows = [
        ("workgroup", joined.workgroup.to_owned()),
        ("this client", format!("{} ({})", joined.name, joined.client.get(..8).unwrap_or_default())),
        ("home", joined.home.clone()),
        ("media", joined.media.clone()),
        ("catalog", joined.catalog.to_owned()),
        ("objects", joined.objects.to_owned()),
    ];
    let rows: Vec<Vec<String>> = rows.map(|(what, text)| vec![what.to_owned(), text]).into();
    output::say(&output::table(&rows))?;
    if !unsaved_peers.is_empty() {
        let peers = unsaved_peers.join(", ");
        output::say(&format!("Where discovery does not work, add to `peers` in config.toml: {peers}"))?;
    }
    output::say(&format!("Next: {}", super::command_line(context, "run")))
}
