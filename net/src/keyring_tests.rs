//! Rings as sets, whom they are told to, and what is kept of them.

use super::*;

fn key(byte: u8) -> WorkgroupKey {
    WorkgroupKey::from_bytes([byte; 32])
}

fn client(byte: u8) -> ClientId {
    ClientId([byte; 32])
}

fn newest(ring: &Keyring) -> WorkgroupKey {
    ring.newest_first().next().unwrap().key.clone()
}

fn merged(one: &Keyring, other: &Keyring) -> Keyring {
    one.merged(other).unwrap().unwrap_or_else(|| one.clone())
}

/// Who makes keys here.
fn maker() -> Identity {
    Identity::generate().unwrap()
}

/// Keeps what is saved, unless it is told to fail.
#[derive(Default, Clone)]
struct Shelf(Arc<Mutex<(Option<String>, bool)>>);

impl KeyStore for Shelf {
    fn save(&self, ring: &Keyring) -> io::Result<()> {
        let mut shelf = self.0.lock().unwrap();
        if shelf.1 {
            return Err(io::Error::other("the disk is full"));
        }
        shelf.0 = Some(ring.text());
        Ok(())
    }
}

#[test]
fn a_ring_reads_back_and_a_key_of_old_is_a_ring_of_one() {
    let ring = Keyring::new(key(7)).rotated(&maker(), &[client(1), client(2)]).unwrap();
    assert_eq!(Keyring::parse(&ring.text()), Ok(ring.clone()));
    assert_eq!(Keyring::parse(&(hex(&[7; 32]) + "\n")), Ok(Keyring::new(key(7))));
    for damaged in ["", "\n", "1", "x 00", &ring.text()[1..], &ring.text().replace(' ', "  ")] {
        assert_eq!(Keyring::parse(damaged), Err(KeyringError::Unreadable), "{damaged:?}");
    }
    assert!(!format!("{ring:?}").contains("0707"));
    assert!(ring.text().len() <= RING_MAX_BYTES);
}

#[test]
fn whoever_is_retired_is_told_no_key_made_since_whoever_tells_it() {
    let ring = Keyring::new(key(7))
        .rotated(&maker(), &[client(1)])
        .unwrap()
        .rotated(&maker(), &[client(2)])
        .unwrap();
    assert_eq!(ring.told_to(&client(1)), Some(Keyring::new(key(7))));
    assert_eq!(ring.told_to(&client(2)).unwrap().keys, ring.keys[..2]);
    assert_eq!(ring.told_to(&client(3)), Some(ring.clone()));
    // A later key leaves out all whom the earlier ones left out.
    assert!(ring.is_without(&[client(1), client(2)]) && !ring.is_without(&[client(3)]));
    let only = Keyring { keys: ring.keys[2..].to_vec() };
    assert_eq!(only.told_to(&client(1)), None);
}

#[test]
fn keys_made_at_once_are_both_kept_and_one_is_the_newest_for_everybody() {
    let first = Keyring::new(key(7));
    let (one, other) =
        (first.rotated(&maker(), &[client(1)]).unwrap(), first.rotated(&maker(), &[client(2)]).unwrap());
    let both = merged(&one, &other);
    assert_eq!(both, merged(&other, &one));
    assert_eq!(both.keys.len(), 3);
    assert_eq!(merged(&both, &one), both);
    // Each of the two may know one of them; so another one is made, which neither is told.
    assert!(!both.is_without(&[client(1), client(2)]));
    let after = both.rotated(&maker(), &[client(1), client(2)]).unwrap();
    for retired in [client(1), client(2)] {
        assert!(after.told_to(&retired).unwrap().newest_first().all(|told| told.key != newest(&after)));
    }
}

#[test]
fn eight_keys_are_kept_and_the_oldest_go() {
    let mut ring = Keyring::new(key(7));
    let first = ring.keys[0].clone();
    for n in 0..20 {
        ring = ring.rotated(&maker(), &[client(n)]).unwrap();
    }
    assert_eq!(ring.keys.len(), KEYS_MAX);
    assert_eq!(ring.keys.iter().map(|key| key.number).collect::<Vec<_>>(), (14..=21).collect::<Vec<_>>());
    // An old ring brings none of the old ones back.
    assert_eq!(ring.merged(&Keyring { keys: vec![first] }), Ok(None));
}

#[test]
fn a_number_far_above_the_others_is_refused() {
    let ring = Keyring::new(key(7));
    let far = |number| Keyring { keys: vec![RingKey::made(number, key(8), &maker(), BTreeSet::new())] };
    assert_eq!(ring.merged(&far(u32::MAX)), Err(KeyringError::TooFarAhead));
    assert_eq!(ring.merged(&far(10)), Err(KeyringError::TooFarAhead));
    assert!(ring.merged(&far(9)).unwrap().is_some());
}

#[test]
fn a_ring_that_could_not_be_kept_is_not_used_and_nobody_is_told() {
    let shelf = Shelf::default();
    let keys = Keys::new(maker(), Keyring::new(key(7)), Box::new(shelf.clone()));
    let mut changes = keys.changes();
    shelf.0.lock().unwrap().1 = true;
    assert!(keys.rotate(&[client(1)]).is_err());
    assert_eq!(keys.ring(), Keyring::new(key(7)));
    assert!(!changes.has_changed().unwrap());
    shelf.0.lock().unwrap().1 = false;
    assert!(keys.rotate(&[client(1)]).unwrap());
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    // What was kept is what is used; repeating it makes no further key.
    assert_eq!(Keyring::parse(shelf.0.lock().unwrap().0.as_ref().unwrap()), Ok(keys.ring()));
    assert!(!keys.rotate(&[client(1)]).unwrap() && !keys.merge(&Keyring::new(key(7))).unwrap());
    assert!(!changes.has_changed().unwrap());
}

#[test]
fn a_hint_means_something_to_who_has_the_key_and_is_never_the_same_twice() {
    let ring = Keyring::new(key(7)).rotated(&maker(), &[client(1)]).unwrap();
    let (one, other) =
        (hints(&ring, &[1; 32], &client(5)).unwrap(), hints(&ring, &[2; 32], &client(5)).unwrap());
    assert_eq!(one[0], hint(&newest(&ring), &[1; 32], &client(5)));
    assert_eq!(one[1], hint(&key(7), &[1; 32], &client(5)));
    assert!(one.iter().all(|hint| !other.contains(hint)));
    // Places without a key are filled, and differently each time.
    let again = hints(&ring, &[1; 32], &client(5)).unwrap();
    assert_eq!(one[..2], again[..2]);
    assert!((2..KEYS_MAX).all(|i| one[i] != again[i]));
}

#[test]
fn a_key_that_its_maker_did_not_sign_as_it_is_cannot_be_read() {
    let (anna, ben) = (maker(), maker());
    let ring = Keyring::new(key(7)).rotated(&anna, &[client(1)]).unwrap();
    let text = ring.text();
    assert_eq!(ring.maker(), Some(anna.client_id()));
    let (whom, other) = (client(1).to_string(), client(2).to_string());
    let changed = [
        text.replace(&whom, &other),
        text.replace(&format!(" {whom}"), ""),
        text.replace(&anna.client_id().to_string(), &ben.client_id().to_string()),
        text.replace("\n2 ", "\n3 "),
        text.replace("\n2 ", "\n1 "),
        text.replace("\n2 ", "\n0 "),
    ];
    for changed in changed {
        assert_eq!(Keyring::parse(&changed), Err(KeyringError::Unreadable), "{changed}");
    }
}

#[test]
fn a_key_made_by_somebody_who_was_retired_since_is_replaced() {
    let (anna, ben) = (maker(), maker());
    let ring = Keyring::new(key(7)).rotated(&ben, &[client(1), ben.client_id()]).unwrap();
    assert!(ring.is_without(&[client(1)]));
    assert!(!ring.is_without(&[client(1), ben.client_id()]), "it knows it, whatever the key says");
    let keys = Keys::new(anna.clone(), ring, Box::new(Shelf::default()));
    assert!(keys.rotate(&[client(1), ben.client_id()]).unwrap());
    assert_eq!(keys.ring().maker(), Some(anna.client_id()));
}
