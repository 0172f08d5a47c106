//! Two nodes with one catalog: files go both ways, byte for byte, also when either is killed at any moment.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;
use tcat::demo::verify::Digest;
use tcat_tests::{FinalNames, Laboratory, Node, Random};

type Files = BTreeMap<String, Digest>;

/// Sizes around every border that matters: empty, tiny, a block, a transfer group, many groups.
const SIZES: [usize; 8] = [0, 1, 4095, 65_536, 65_537, 300_000, 1_048_577, 5_000_000];

fn bring(node: &Node<'_>, names: &FinalNames, files: &mut Files, path: &str, bytes: &[u8]) {
    names.expect(tcat::demo::verify::hash_bytes(bytes));
    files.insert(path.to_owned(), node.save(path, bytes));
}

#[test]
fn files_dropped_into_either_folder_are_in_both_byte_for_byte() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    anna.meet(&ben);
    let names = FinalNames::watch(&[&anna.media, &ben.media]);
    let mut random = Random::new();
    let mut files = Files::new();
    for (index, size) in SIZES.into_iter().cycle().take(48).enumerate() {
        let (node, folder) =
            if index % 2 == 0 { (&anna, "von Anna/Été") } else { (&ben, "写真/from ben") };
        bring(node, &names, &mut files, &format!("{folder}/Größe {index}.jpg"), &random.bytes(size + index));
    }
    bring(&anna, &names, &mut files, "one large file.mov", &random.bytes(48 << 20));
    anna.settle();
    ben.settle();
    anna.settle();
    for node in [&mut anna, &mut ben] {
        assert!(node.status().settled);
        node.stop();
    }
    assert!(names.end() >= 2 * files.len() as u64);
    laboratory.judge(&anna, &[&anna, &ben], &files);
}

#[test]
fn an_edit_on_either_node_replaces_the_content_on_both_and_the_old_one_is_in_trash() {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    let mut random = Random::new();
    let mut files = Files::new();
    let first = anna.save("a.jpg", &random.bytes(100_000));
    files.insert("b.jpg".into(), anna.save("b.jpg", &random.bytes(100_000)));
    anna.settle();
    ben.settle();
    files.insert("a.jpg".into(), ben.save("a.jpg", &random.bytes(120_000)));
    ben.settle();
    anna.settle();
    anna.stop();
    ben.stop();
    laboratory.judge(&anna, &[&anna, &ben], &files);
    assert!(trash_holds(&anna, first), "what tcat replaced at anna's lies in her trash");
}

fn trash_holds(node: &Node<'_>, md5: Digest) -> bool {
    let mut folders = vec![node.file(".tcat/trash")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if tcat::demo::verify::hash_file(&entry.path()).unwrap().0 == md5 {
                return true;
            }
        }
    }
    false
}

/// One run: `kills` moments at which one of the two is killed while files move.
fn killed_at_random_moments(kills: u32) {
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    anna.meet(&ben);
    let names = FinalNames::watch(&[&anna.media, &ben.media]);
    let mut random = Random::new();
    let mut files = Files::new();
    for kill in 0..kills {
        let target = if random.below(2) == 0 { &anna } else { &ben };
        for index in 0..3 {
            let size = [2_000, 400_000, 12_000_000][index] + random.below(1000) as usize;
            let bytes = random.bytes(size);
            bring(target, &names, &mut files, &format!("kill {kill}/file {index}.jpg"), &bytes);
        }
        // An earlier file gets a new content now and then, wherever it came from.
        let edited = format!("kill {}/file 1.jpg", random.below(u64::from(kill) + 1));
        if kill % 4 == 3 && target.file(&edited).exists() {
            anna.settle();
            ben.settle();
            bring(target, &names, &mut files, &edited, &random.bytes(250_000));
        }
        thread::sleep(Duration::from_millis(random.below(1200)));
        let victim = if random.below(2) == 0 { &mut anna } else { &mut ben };
        eprintln!("kill {kill}: {}", victim.name);
        victim.kill();
        victim.start();
    }
    anna.meet(&ben);
    anna.settle();
    ben.settle();
    anna.settle();
    anna.stop();
    ben.stop();
    assert!(names.end() >= files.len() as u64);
    laboratory.judge(&anna, &[&anna, &ben], &files);
}

#[test]
fn killed_at_ten_random_moments_both_end_equal_with_nothing_partial_1_of_3() {
    killed_at_random_moments(10);
}

#[test]
fn killed_at_ten_random_moments_both_end_equal_with_nothing_partial_2_of_3() {
    killed_at_random_moments(10);
}

#[test]
fn killed_at_ten_random_moments_both_end_equal_with_nothing_partial_3_of_3() {
    killed_at_random_moments(10);
}

/// Whether one of the two has yet to get a file that the other has.
fn files_are_on_their_way(nodes: [&Node<'_>; 2], files: &Files) -> bool {
    files.keys().any(|path| nodes.iter().any(|node| !node.file(path).exists()))
}

/// A day's shooting comes in bit by bit on both sides, with a film of a gigabyte each way, and all the while one of the
/// two is killed.
#[test]
fn five_hundred_pictures_and_two_films_survive_thirty_kills_while_they_move() {
    const KILLS: usize = 30;
    const PICTURES: usize = 500;
    const FILM_BYTES: usize = 1_000_000_000;
    let laboratory = Laboratory::new();
    let (mut anna, mut ben) = laboratory.pair();
    anna.meet(&ben);
    let names = FinalNames::watch(&[&anna.media, &ben.media]);
    let mut random = Random::new();
    let mut files = Files::new();
    let mut kills_on_the_way = 0;
    for kill in 0..KILLS {
        for index in (kill..PICTURES).step_by(KILLS) {
            let node = if random.below(2) == 0 { &anna } else { &ben };
            let path = format!("{}/day {}/{index}.jpg", node.name, index % 7);
            let size = 50_000 + random.below(1_500_000) as usize;
            bring(node, &names, &mut files, &path, &random.bytes(size));
        }
        match kill {
            0 => bring(&anna, &names, &mut files, "from anna.mov", &random.bytes(FILM_BYTES)),
            10 => bring(&ben, &names, &mut files, "from ben.mov", &random.bytes(FILM_BYTES)),
            _ => {}
        }
        thread::sleep(Duration::from_millis(random.below(1500)));
        kills_on_the_way += usize::from(files_are_on_their_way([&anna, &ben], &files));
        let victim = if random.below(2) == 0 { &mut anna } else { &mut ben };
        eprintln!("kill {kill}: {}", victim.name);
        victim.kill();
        victim.start();
    }
    assert!(kills_on_the_way >= KILLS / 2, "only {kills_on_the_way} kills met files on their way");
    anna.meet(&ben);
    anna.settle();
    ben.settle();
    anna.settle();
    anna.stop();
    ben.stop();
    assert!(names.end() >= files.len() as u64);
    laboratory.judge(&anna, &[&anna, &ben], &files);
}
