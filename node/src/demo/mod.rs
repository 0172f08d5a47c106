//! `tcat demo`: the whole story on one machine, with real processes and files, verified at the end.
//!
//! Holds always: it succeeds only if its own reading of folders, catalog and objects finds all that was saved; it
//! reaches no other machine; it leaves no process, and no file unless asked to or unless something went wrong.
//! [`scenes`] is the story; [`nodes`] the actors, on a [`lan`] of their own where that can be; [`verify`] the judge.

mod album;
mod lan;
pub mod nodes;
pub mod pictures;
mod scenes;
pub mod stage;
pub mod system;
pub mod verify;

use crate::output::{self, Failure};
use nodes::{Node, network_line};
use scenes::Story;
use stage::Stage;
use std::path::PathBuf;
use verify::{Place, Report};

/// How many nodes the demo can have.
const NODES: std::ops::RangeInclusive<u8> = 2..=8;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes.
    pub nodes: u8,
    /// A folder whose files are shown in place of painted pictures; it is only read.
    pub media: Option<PathBuf>,
    /// Whether the demo's folder stays.
    pub keep: bool,
}

/// Plays the demo. In a child that the demo started to guard it or to hold a namespace, this never
/// returns.
pub fn run(options: &Options) -> Result<(), Failure> {
    system::serve_if_asked();
    if !NODES.contains(&options.nodes) {
        let why = format!("{} is not between {} and {}", options.nodes, NODES.start(), NODES.end());
        return Err(Failure::usage(
            "cannot play with that many nodes",
            why,
            "choose another number with --nodes",
        ));
    }
    let program = std::env::current_exe().map_err(|error| {
        Failure::new("cannot find this program's own file", error, "start it by its full path")
    })?;
    let network = system::own_network(&program);
    let stage = Stage::set_up(&program, network, options.nodes)?;
    if options.keep {
        stage.keep_folder();
    }
    let played = play(&stage, options);
    let folder = stage.root().display().to_string();
    if played.is_err() {
        stage.keep_folder();
        output::warn(&format!("the nodes' logs and everything else are kept in {folder}"));
    } else if options.keep {
        output::say(&format!("kept in {folder}"))?;
    }
    played
}

fn play(stage: &Stage, options: &Options) -> Result<(), Failure> {
    stage
        .say(&format!("{} nodes, each a process with a home and a media folder of its own", options.nodes))?;
    stage.say(&format!("everything happens in {}", stage.root().display()))?;
    stage.say(&network_line(stage.network()))?;
    let nodes: Result<Vec<Node<'_>>, Failure> =
        (1..=usize::from(options.nodes)).map(|number| Node::new(stage, number)).collect();
    let mut story = Story::new(stage, nodes?);
    story.first_node_imports(options.media.as_deref())?;
    story.others_join()?;
    story.source_is_away()?;
    story.edit_travels()?;
    story.cloud_is_away()?;
    story.two_edit_one_picture()?;
    story.kill_in_mid_download()?;
    story.work_is_taken_over()?;
    story.all_stop()?;
    let report = story.verify()?;
    conclude(stage, &story, &report)
}

/// Prints what the judge found; an error if anything differs.
fn conclude(stage: &Stage, story: &Story<'_>, report: &Report) -> Result<(), Failure> {
    output::say(&table(report))?;
    for line in story.cloud_lines() {
        output::say(&line)?;
    }
    let mut differences = report.differences.clone();
    differences.extend(story.wrong_fetches());
    if differences.is_empty() {
        return stage.say("all MD5s agree, nothing was lost");
    }
    for difference in differences.iter().take(50) {
        output::warn(&format!("differs: {}", output::clean(difference)));
    }
    let why = format!("{} differences", differences.len());
    Err(Failure::new("the verification failed", why, "please report this with the kept folder"))
}

fn table(report: &Report) -> String {
    let heading = ["", "files", "size", "as last saved", "in trash", "unfinished"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for place in &report.places {
        rows.push(vec![
            place.name.clone(),
            place.files.to_string(),
            output::size(place.bytes),
            place.right.to_string(),
            place.in_trash.to_string(),
            place.unfinished.to_string(),
        ]);
    }
    rows.push(vec!["catalog".into(), report.rows.to_string()]);
    rows.push(vec!["objects".into(), report.objects.to_string(), output::size(report.object_bytes)]);
    output::table(&rows)
}

impl Story<'_> {
    /// The judge's places: every node's media folder.
    fn places(&self) -> Vec<Place> {
        self.nodes().iter().map(|node| Place { name: node.name.clone(), media: node.media.clone() }).collect()
    }
}
