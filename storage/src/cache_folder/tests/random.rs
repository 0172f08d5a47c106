//! Random sequences of what tcat and people do, with crashes: nothing that was saved, and not overwritten or deleted
//! by a person, is ever lost; and only whole contents have names that people see.

use super::*;
use quickcheck::{Arbitrary, Gen, QuickCheck};
use std::sync::atomic::{AtomicUsize, Ordering};

const PATHS: [&str; 4] = ["a.jpg", "Été 1/b c.jpg", "Été 1/d", "deep/er/e.jpg"];

#[derive(Clone, Debug)]
enum Act {
    Save { at: usize },
    Delete { at: usize },
    Publish { at: usize, expects: Belief, stop: usize },
    Trash { at: usize, stop: usize },
    SetAside { at: usize, stop: usize },
    Move { from: usize, to: usize },
    Restore { to: usize },
    Restart,
}

/// What a publication takes to be at the path.
#[derive(Clone, Copy, Debug)]
enum Belief {
    Absent,
    Right,
    Wrong,
    /// What is there is a later content of the chain.
    Later,
}

impl Arbitrary for Act {
    fn arbitrary(g: &mut Gen) -> Self {
        let path = |g: &mut Gen| usize::arbitrary(g) % PATHS.len();
        // Most steps run to their end.
        let stop = |g: &mut Gen| usize::arbitrary(g) % 40;
        match u8::arbitrary(g) % 12 {
            0..3 => Self::Save { at: path(g) },
            3 => Self::Delete { at: path(g) },
            4..8 => {
                let beliefs = [Belief::Absent, Belief::Right, Belief::Wrong, Belief::Later];
                Self::Publish { at: path(g), expects: *g.choose(&beliefs).unwrap(), stop: stop(g) }
            }
            8 => Self::Trash { at: path(g), stop: stop(g) },
            9 => Self::SetAside { at: path(g), stop: stop(g) },
            10 => Self::Move { from: path(g), to: path(g) },
            _ if bool::arbitrary(g) => Self::Restore { to: path(g) },
            _ => Self::Restart,
        }
    }
}

/// What must be found, and what may be seen.
#[derive(Default)]
struct Saved {
    count: usize,
    kept: BTreeSet<String>,
}

impl Saved {
    /// All of one size, so that only the bytes tell them apart.
    fn next(&mut self) -> String {
        self.count += 1;
        format!("content {:05}", self.count)
    }
}

fn stop_after(world: &mut World, steps: usize) {
    let passed = AtomicUsize::new(0);
    world.folder.stop_at(move |_| passed.fetch_add(1, Ordering::SeqCst) == steps);
}

fn act(mut world: World, act: &Act, saved: &mut Saved) -> World {
    match *act {
        Act::Save { at } => {
            let text = saved.next();
            if let Some(overwritten) = world.read(PATHS[at]) {
                saved.kept.remove(&overwritten);
            }
            world.save(PATHS[at], &text);
            saved.kept.insert(text);
        }
        Act::Delete { at } => {
            if let Some(deleted) = world.read(PATHS[at]) {
                saved.kept.remove(&deleted);
                fs::remove_file(world.folder.place_of(&path(PATHS[at]))).unwrap();
            }
        }
        Act::Publish { at, expects, stop } => {
            let text = saved.next();
            let there = world.read(PATHS[at]);
            let (expected, known) = match (expects, there.as_deref()) {
                (Belief::Absent, _) => (None, vec![]),
                (Belief::Right, Some(there)) => (Some(there), vec![]),
                (Belief::Later, Some(there)) => (Some("something else"), vec![text.as_str(), there]),
                _ => (Some("something else"), vec![]),
            };
            stop_after(&mut world, stop);
            if world.publish(PATHS[at], &text, expected, &known).is_ok_and(|done| {
                matches!(
                    done,
                    Published::Placed { .. } | Published::Replaced { .. } | Published::Edited { .. }
                )
            }) {
                saved.kept.insert(text);
            }
        }
        Act::Trash { at, stop } => {
            let expected = world.read(PATHS[at]).map(|text| content(&text));
            stop_after(&mut world, stop);
            let _ = world.folder.trash(&path(PATHS[at]), expected.as_ref());
        }
        Act::SetAside { at, stop } => {
            let expected = content(&world.read(PATHS[at]).unwrap_or_default());
            let at = path(PATHS[at]);
            stop_after(&mut world, stop);
            let _ = world.folder.set_aside(&at, &expected, &at.conflict_name("bob", 1));
        }
        Act::Move { from, to } => {
            let _ = world.folder.move_file(&path(PATHS[from]), &path(PATHS[to]));
        }
        Act::Restore { to } => {
            if let Some(entry) = world.folder.trash_entries(1).unwrap().first() {
                let _ = world.folder.restore(entry, None, &path(PATHS[to]));
            }
        }
        Act::Restart => world = world.restarted(),
    }
    // Every step may have been a crash: the next one begins with a restart.
    let world = world.restarted();
    world.folder.recover().unwrap();
    world
}

#[test]
fn no_sequence_of_steps_saves_and_crashes_loses_a_content() {
    fn law(exchange: bool, acts: Vec<Act>) -> bool {
        let mut world = World::with_exchange(exchange);
        let mut saved = Saved::default();
        for one in &acts {
            world = act(world, one, &mut saved);
            let found = world.findable();
            assert!(saved.kept.is_subset(&found), "{one:?} lost {:?}", saved.kept.difference(&found));
            let whole = |text: &String| text.len() == "content 00000".len() && text.starts_with("content ");
            assert!(world.visible().values().all(whole), "{one:?}: {:?}", world.visible());
            assert!(world.temporary().iter().all(|name| name.ends_with(".part")), "{:?}", world.temporary());
        }
        true
    }
    QuickCheck::new().tests(60).rng(Gen::new(25)).quickcheck(law as fn(bool, Vec<Act>) -> bool);
}
