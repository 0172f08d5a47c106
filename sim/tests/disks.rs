//! The simulated disk does what disks do, and no more than that.
#![allow(clippy::unwrap_used)]

use redb::StorageBackend;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use tcat_sim::disk::{Disk, DiskUser, PAGE_BYTES, SECTOR_BYTES, Trouble};
use tcat_sim::random::Random;

const LEN: usize = 4 * PAGE_BYTES;

/// A disk whose file holds `LEN` synced bytes of 1.
fn ones() -> (Disk, DiskUser) {
    let disk = Disk::default();
    let user = disk.user();
    user.set_len(LEN as u64).unwrap();
    user.write(0, &[1; LEN]).unwrap();
    user.sync_data().unwrap();
    (disk, user)
}

fn read(user: &DiskUser) -> Vec<u8> {
    let mut out = vec![0; user.len().unwrap() as usize];
    user.read(0, &mut out).unwrap();
    out
}

/// What is there after the power went, for many numbers: the sectors that have the new bytes.
fn outcomes(change: &dyn Fn(&DiskUser)) -> BTreeSet<Vec<u8>> {
    (0..300)
        .map(|seed| {
            let (disk, user) = ones();
            change(&user);
            disk.power_cut(&mut Random::new(seed));
            assert!(user.len().is_err(), "a user from before the cut is gone");
            let bytes = read(&disk.user());
            for sector in bytes.chunks(SECTOR_BYTES) {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole");
            }
            bytes.chunks(SECTOR_BYTES).map(|sector| sector[0]).collect()
        })
        .collect()
}

#[test]
fn what_was_synced_survives_a_power_cut_and_anything_may_be_left_of_the_rest() {
    assert_eq!(outcomes(&|_| {}), BTreeSet::from([vec![1; LEN / SECTOR_BYTES]]));
    let after = |user: &DiskUser| {
        user.write(0, &[2; LEN]).unwrap();
        assert_eq!(read(user), [2; LEN], "a write is seen at once");
    };
    let seen = outcomes(&after);
    assert!(seen.contains(&vec![1; LEN / SECTOR_BYTES]), "all is lost");
    assert!(seen.contains(&vec![2; LEN / SECTOR_BYTES]), "all is kept");
    let torn_page =
        |sectors: &Vec<u8>| sectors.chunks(8).any(|page| page.iter().any(|byte| *byte != page[0]));
    assert!(seen.iter().any(torn_page), "a page is torn");
    let whole_pages = |sectors: &&Vec<u8>| !torn_page(sectors);
    assert!(seen.iter().filter(whole_pages).count() > 8, "whole pages, any subset");
}

#[test]
fn of_two_writes_of_one_place_either_or_none_may_be_there() {
    let seen = outcomes(&|user| {
        user.write(0, &[2; SECTOR_BYTES]).unwrap();
        user.write(0, &[3; SECTOR_BYTES]).unwrap();
    });
    let first: BTreeSet<u8> = seen.iter().map(|sectors| sectors[0]).collect();
    assert_eq!(first, BTreeSet::from([1, 2, 3]));
}

#[test]
fn a_length_that_was_not_synced_may_be_lost_though_later_writes_are_kept() {
    let seen = outcomes(&|user| {
        user.set_len(2 * LEN as u64).unwrap();
        user.write(LEN as u64, &[2; LEN]).unwrap();
        user.write(0, &[2; SECTOR_BYTES]).unwrap();
    });
    let (old, sectors) = (LEN / SECTOR_BYTES, 2 * LEN / SECTOR_BYTES);
    assert!(seen.iter().any(|found| found.len() == old && found[0] == 2), "the header without the length");
    assert!(
        seen.iter().any(|found| found.len() == sectors && found[old] == 0),
        "the length without the data"
    );
    let shrunk = outcomes(&|user| {
        user.set_len(0).unwrap();
        user.set_len(LEN as u64).unwrap();
        assert_eq!(read(user), [0; LEN]);
    });
    assert!(shrunk.contains(&vec![1; old]) && shrunk.contains(&vec![0; old]) && shrunk.contains(&vec![]));
}

#[test]
fn a_sync_that_fails_forgets_what_it_had_to_write_and_the_next_one_does_not_write_it_either() {
    let mut lost = 0;
    for seed in 0..50 {
        let (disk, user) = ones();
        user.write(0, &[2; LEN]).unwrap();
        disk.arm(Trouble::SyncError, 0, Random::new(seed));
        user.sync_data().unwrap_err();
        assert_eq!(read(&user), [2; LEN], "it is still seen");
        user.sync_data().unwrap();
        let all_there = !disk.has_forgotten();
        disk.power_cut(&mut Random::new(seed));
        let found = read(&disk.user());
        assert_eq!(found == [2; LEN], all_there);
        lost += usize::from(!all_there);
    }
    assert!((10..50).contains(&lost), "{lost}");
}

#[test]
fn a_page_that_is_written_again_after_a_failed_sync_is_written_whole() {
    for seed in 0..50 {
        let (disk, user) = ones();
        user.write(0, &[2; PAGE_BYTES]).unwrap();
        disk.arm(Trouble::SyncError, 0, Random::new(seed));
        user.sync_data().unwrap_err();
        user.write(8, &[2]).unwrap();
        user.sync_data().unwrap();
        disk.power_cut(&mut Random::new(seed));
        assert_eq!(read(&disk.user())[..PAGE_BYTES], [2; PAGE_BYTES]);
    }
}

#[test]
fn a_killed_user_leaves_what_it_wrote_to_the_system() {
    let (disk, user) = ones();
    user.write(0, &[2; LEN]).unwrap();
    disk.kill(&mut Random::new(1));
    user.write(0, &[3; LEN]).unwrap_err();
    let user = disk.user();
    assert_eq!(read(&user), [2; LEN]);
    user.sync_data().unwrap();
    disk.power_cut(&mut Random::new(1));
    assert_eq!(read(&disk.user()), [2; LEN]);
}

#[test]
fn a_trouble_hits_once_and_in_its_turn() {
    let (disk, user) = ones();
    disk.arm(Trouble::WriteError, 1, Random::new(1));
    user.write(0, &[2]).unwrap();
    assert_eq!(user.write(0, &[3; LEN]).unwrap_err().kind(), ErrorKind::Other);
    user.write(0, &[4]).unwrap();
    disk.arm(Trouble::ReadError, 0, Random::new(1));
    user.read(0, &mut [0; 8]).unwrap_err();
    user.read(0, &mut [0; 8]).unwrap();
    disk.arm(Trouble::PowerCut, 1, Random::new(1));
    user.write(0, &[5]).unwrap();
    user.sync_data().unwrap_err();
    user.read(0, &mut [0; 8]).unwrap_err();
    assert!(!disk.disarm());
    assert_eq!(user.read(LEN as u64 - 4, &mut [0; 8]).unwrap_err().kind(), ErrorKind::Other);
    disk.power_cut(&mut Random::new(1));
    assert_eq!(disk.user().read(LEN as u64 - 4, &mut [0; 8]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_full_disk_takes_what_needs_no_new_page() {
    let disk = Disk::default();
    let user = disk.user();
    disk.set_free_pages(Some(2));
    user.set_len(LEN as u64).unwrap();
    user.write(0, &[1; 2 * PAGE_BYTES]).unwrap();
    assert_eq!(user.write(2 * PAGE_BYTES as u64, &[1]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(user.set_len(2 * LEN as u64).unwrap_err().kind(), ErrorKind::StorageFull);
    user.write(0, &[2; 2 * PAGE_BYTES]).unwrap();
    disk.set_free_pages(None);
    user.write(2 * PAGE_BYTES as u64, &[1]).unwrap();
}

#[test]
fn a_copy_shares_pages_until_they_change_and_damage_is_what_was_ordered() {
    let (disk, user) = ones();
    let before = disk.snapshot();
    assert!(disk.flip_bit(9000, 3));
    assert!(!disk.flip_bit(LEN as u64, 3));
    assert!(disk.is_damaged());
    let flipped: Vec<usize> = (0..LEN).filter(|at| read(&user)[*at] != 1).collect();
    assert_eq!(flipped, [9000]);
    assert_ne!(disk.snapshot().hash(), before.hash());
    disk.restore(&before);
    assert_eq!(disk.snapshot(), before);
    assert_eq!(read(&disk.user()), [1; LEN]);
}
