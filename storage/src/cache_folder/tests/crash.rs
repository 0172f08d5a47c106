//! A crash between any two steps, and a person who saves between any two steps.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tcat_engine::publishing::{Role, Stem};

const AT: &str = "Été 1/a b.jpg";

/// What is at the path when "new" is published over "old", with "new" and "newest" known.
const THERE: [Option<&str>; 5] = [Some("old"), Some("new"), Some("newest"), Some("an edit"), None];

fn world_with(exchange: bool, there: Option<&str>) -> World {
    let world = World::with_exchange(exchange);
    if let Some(text) = there {
        world.save(AT, text);
    }
    world
}

fn publish(world: &World) -> Result<Published, FolderError> {
    world.publish(AT, "new", Some("old"), &["new", "newest"])
}

/// Stops at the `nth` step; what it returns counts the steps that were passed.
fn stop_at_step(world: &mut World, nth: usize) -> Arc<AtomicUsize> {
    let passed = Arc::new(AtomicUsize::new(0));
    let counter = passed.clone();
    world.folder.stop_at(move |_| counter.fetch_add(1, Ordering::SeqCst) == nth);
    passed
}

/// Every content is where a person or tcat finds it, and only whole contents have names that people see.
fn check(world: &World, there: Option<&str>, when: &str) {
    let files = world.files();
    let visible = world.visible();
    let whole = ["old", "new", "newest", "an edit"];
    assert!(visible.values().all(|text| whole.contains(&text.as_str())), "{when}: {files:#?}");
    if let Some(text) = there {
        assert!(world.findable().contains(text), "{when}: {text:?} is lost: {files:#?}");
        assert!(visible.contains_key(AT), "{when}: the name is empty: {files:#?}");
    }
    assert!(files.values().any(|text| text == "new"), "{when}: the new content is lost: {files:#?}");
    assert!(world.temporary().iter().all(|name| name.ends_with(".part")), "{when}: {files:#?}");
}

#[test]
fn a_crash_between_any_two_steps_loses_nothing_and_is_recovered() {
    for exchange in [true, false] {
        for there in THERE {
            let mut step = 0;
            loop {
                let mut world = world_with(exchange, there);
                stop_at_step(&mut world, step);
                let outcome = publish(&world);
                let when = format!("exchange {exchange}, {there:?}, stopped at step {step}: {outcome:?}");
                let stopped = matches!(outcome, Err(FolderError::Stopped(_)));
                assert!(stopped || outcome.is_ok(), "{when}");
                let world = world.restarted();
                let report = world.folder.recover().unwrap();
                let failed = report.iter().any(|done| matches!(done, Recovered::Failed { .. }));
                assert!(!failed, "{when}: {report:?}");
                check(&world, there, &when);
                assert_eq!(world.folder.recover().unwrap(), [], "{when}: recovering twice does nothing more");
                check(&world, there, &when);
                if !stopped {
                    break;
                }
                step += 1;
            }
            assert!(step >= 7, "only {step} steps were seen with exchange {exchange} and {there:?}");
        }
    }
}

#[test]
fn a_crash_while_recovering_is_recovered_too() {
    for exchange in [true, false] {
        for there in THERE {
            for step in 2.. {
                let mut world = world_with(exchange, there);
                stop_at_step(&mut world, step);
                if publish(&world).is_ok() {
                    break;
                }
                for again in 0.. {
                    world = world.restarted();
                    stop_at_step(&mut world, again);
                    if world.folder.recover().is_ok() {
                        break;
                    }
                }
                check(&world, there, &format!("exchange {exchange}, {there:?}, step {step}"));
            }
        }
    }
}

#[test]
fn after_a_crash_the_same_publication_can_simply_be_repeated() {
    for exchange in [true, false] {
        for step in 0.. {
            let mut world = world_with(exchange, Some("old"));
            stop_at_step(&mut world, step);
            let done = publish(&world);
            let mut world = world.restarted();
            world.folder.stop_at(|_| false);
            if done.is_ok() {
                break;
            }
            // No recover(): the engine may ask for the same again at once.
            let again = publish(&world).unwrap();
            assert_eq!(world.read(AT).unwrap(), "new", "step {step}: {again:?}");
            assert!(world.findable().contains("old"), "step {step}: {again:?}");
            world.folder.recover().unwrap();
            check(&world, Some("old"), &format!("repeated after step {step}"));
        }
    }
}

/// What a person may do to the path between two steps.
fn people(n: usize, place: &Path) {
    let fresh = place.with_extension("editor's");
    match n {
        0 => fs::write(place, "saved in place").unwrap(),
        1 => {
            fs::write(&fresh, "saved by rename").unwrap();
            fs::rename(&fresh, place).unwrap();
        }
        2 => drop(fs::remove_file(place)),
        3 => {
            let _ = fs::remove_file(place);
            fs::write(place, "deleted and made new").unwrap();
        }
        _ => drop(fs::rename(place, place.with_file_name("renamed.jpg"))),
    }
}

#[test]
fn what_a_person_saves_between_any_two_steps_is_found() {
    let saved = [Some("saved in place"), Some("saved by rename"), None, Some("deleted and made new"), None];
    for exchange in [true, false] {
        for there in [Some("old"), Some("newest"), Some("an edit")] {
            for (who, text) in saved.iter().enumerate() {
                for step in 0.. {
                    let mut world = world_with(exchange, there);
                    let place = world.folder.place_of(&path(AT));
                    let passed = AtomicUsize::new(0);
                    let seen = Arc::new(AtomicUsize::new(0));
                    let count = seen.clone();
                    world.folder.stop_at(move |_| {
                        let now = passed.fetch_add(1, Ordering::SeqCst);
                        count.store(now, Ordering::SeqCst);
                        if now == step {
                            people(who, &place);
                        }
                        false
                    });
                    let outcome = publish(&world);
                    let when =
                        format!("exchange {exchange}, {there:?}, {text:?} at step {step}: {outcome:?}");
                    assert!(outcome.is_ok(), "{when}");
                    if seen.load(Ordering::SeqCst) < step {
                        break;
                    }
                    if let Some(text) = text {
                        assert!(world.findable().contains(*text), "{when}: {:#?}", world.files());
                    }
                    let rest = world.temporary();
                    assert!(rest.iter().all(|name| name.ends_with(".part")), "{when}: {rest:?}");
                }
            }
        }
    }
}

#[test]
fn a_person_who_saves_between_crash_and_restart_loses_nothing() {
    for exchange in [true, false] {
        for there in THERE {
            for step in 0.. {
                let mut world = world_with(exchange, there);
                stop_at_step(&mut world, step);
                if publish(&world).is_ok() {
                    break;
                }
                let replaced = world.read(AT);
                world.save(AT, "saved after the crash");
                let world = world.restarted();
                world.folder.recover().unwrap();
                let when = format!("exchange {exchange}, {there:?}, step {step}: {:#?}", world.files());
                assert!(world.findable().contains("saved after the crash"), "{when}");
                if let Some(text) = there.filter(|text| replaced.as_deref() != Some(text)) {
                    assert!(world.findable().contains(text), "{when}");
                }
                assert!(world.temporary().iter().all(|name| name.ends_with(".part")), "{when}");
            }
        }
    }
}

#[test]
fn a_new_content_is_whole_under_its_name_or_still_a_partial() {
    for step in 0.. {
        let mut world = World::new();
        stop_at_step(&mut world, step);
        let done = world.publish(AT, "new", None, &[]);
        let world = world.restarted();
        assert_eq!(world.folder.recover().unwrap(), []);
        let placed = world.read(AT);
        assert!(placed.as_deref().is_none_or(|text| text == "new"));
        assert_eq!(world.temporary().len(), usize::from(placed.is_none()), "at exactly one place");
        if done.is_ok() {
            break;
        }
    }
}

#[test]
fn a_rename_through_a_temporary_name_survives_a_crash_at_every_step() {
    let [from, to] = [path("a b/é.jpg"), path("a b/É.jpg")];
    for step in 0.. {
        let mut world = World::new();
        world.save("a b/é.jpg", "one");
        let before = crate::platform::stat(&world.folder.place_of(&from)).unwrap();
        stop_at_step(&mut world, step);
        let done = world.move_through(&from, &to, before);
        let world = world.restarted();
        world.folder.recover().unwrap();
        assert_eq!(world.visible().into_values().collect::<Vec<_>>(), ["one"], "step {step}");
        assert!(world.temporary().is_empty(), "step {step}");
        if done.is_ok() {
            break;
        }
    }
}

#[test]
fn a_file_on_its_way_whose_names_are_both_taken_is_kept_beside() {
    let mut world = World::new();
    let [from, to] = [path("é.jpg"), path("É.jpg")];
    world.save("é.jpg", "one");
    let before = crate::platform::stat(&world.folder.place_of(&from)).unwrap();
    world.folder.stop_at(|step| step == "on its way");
    assert!(world.move_through(&from, &to, before).is_err());
    world.save("é.jpg", "two");
    world.save("É.jpg", "three");
    let world = world.restarted();
    world.folder.recover().unwrap();
    assert_eq!(world.read("É(1).jpg").unwrap(), "one");
    assert_eq!(world.visible().len(), 3);
}

#[cfg(unix)]
#[test]
fn a_second_name_left_by_linking_is_removed_and_never_written_to() {
    // Where a rename is a link and a removal, a crash in between leaves both names.
    let world = World::new();
    let partial = world.fetch("new");
    world.save("x.jpg", "other");
    fs::hard_link(&partial, world.place.path().join("a.jpg")).unwrap();
    world.folder.recover().unwrap();
    assert!(world.temporary().is_empty());
    assert_eq!(world.read("a.jpg").unwrap(), "new");

    // The same for each rename of a publication without exchange.
    let stem = Stem::of_publish(ItemId([7; 16]), &content("new"), &content("old"));
    for (step, name) in
        [("ours named", None), ("renamed aside", Some(Role::Aside)), ("placed", Some(Role::Swap))]
    {
        let mut world = world_with(false, Some("old"));
        let both = name.map(|role| world.place.path().join(".tcat/tmp").join(stem.name(role)));
        let place = world.folder.place_of(&path(AT));
        world.folder.stop_at(move |now| {
            if now == step
                && let Some(both) = &both
            {
                match name {
                    Some(Role::Aside) => fs::hard_link(both, &place).unwrap(),
                    _ => fs::hard_link(&place, both).unwrap(),
                }
            }
            now == step
        });
        assert!(publish(&world).is_err());
        let world = world.restarted();
        world.folder.recover().unwrap();
        check(&world, Some("old"), step);
        for file in world.files().keys() {
            let looked = crate::platform::stat(&world.folder.root().join(file)).unwrap();
            assert_eq!(looked.links, 1, "{step}: {file}");
        }
    }
}

#[test]
fn garbage_in_tmp_is_left_alone_and_what_looks_like_ours_goes_to_trash() {
    let world = World::new();
    let temp = world.place.path().join(".tcat/tmp");
    let stem = Stem::of_publish(ItemId([3; 16]), &content("new"), &content("old"));
    fs::create_dir(temp.join("a folder")).unwrap();
    for name in ["notes.txt", "x.swap", "é.journal", "probe", &stem.name(Role::Swap).to_uppercase()] {
        fs::write(temp.join(name), "a person's").unwrap();
    }
    fs::write(temp.join(stem.name(Role::FreshJournal)), "torn").unwrap();
    fs::write(temp.join(stem.name(Role::Swap)), "who knows").unwrap();
    let report = world.folder.recover().unwrap();
    assert_eq!(report, [Recovered::Unexplained(stem.name(Role::Swap))]);
    assert_eq!(world.temporary().len(), 5, "{:?}", world.temporary());
    assert!(world.findable().contains("who knows"));
    assert_eq!(world.folder.recover().unwrap(), []);
}

#[test]
fn a_journal_that_is_garbage_or_newer_is_reported_and_its_files_stay() {
    for text in ["", "\u{1}\u{2}", "version = 2\n", "version = 1\n"] {
        let world = World::new();
        let temp = world.place.path().join(".tcat/tmp");
        let stem = Stem::of_publish(ItemId([3; 16]), &content("new"), &content("old"));
        fs::write(temp.join(stem.name(Role::Journal)), text).unwrap();
        fs::write(temp.join(stem.name(Role::Swap)), "a person's").unwrap();
        let report = world.folder.recover().unwrap();
        assert!(matches!(&report[..], [Recovered::Failed { .. }]), "{text:?}: {report:?}");
        assert!(!report.iter().any(|done| done.to_string().contains('\n')), "{report:?}");
        assert_eq!(world.temporary().len(), 2);
    }
}

#[test]
fn a_publication_that_fails_is_undone_at_once() {
    for exchange in [true, false] {
        let mut world = world_with(exchange, Some("an edit"));
        let parent = world.folder.place_of(&path(AT)).parent().unwrap().to_owned();
        let away = parent.with_file_name("away");
        // A folder that becomes a file makes every way to the path fail.
        world.folder.stop_at(move |step| {
            if step == "ours named" {
                fs::rename(&parent, &away).unwrap();
                fs::write(&parent, "a file").unwrap();
            }
            false
        });
        let error = publish(&world).unwrap_err();
        assert!(matches!(error, FolderError::InTheWay { .. }), "{error}");
        let files = world.files();
        assert!(files.values().any(|text| text == "an edit") && files.values().any(|text| text == "new"));
        fs::remove_file(world.place.path().join("Été 1")).unwrap();
        fs::rename(world.place.path().join("away"), world.place.path().join("Été 1")).unwrap();
        let world = world.restarted();
        assert!(matches!(publish(&world), Ok(Published::Edited { .. })));
        world.folder.recover().unwrap();
        check(&world, Some("an edit"), "after the failure");
    }
}
