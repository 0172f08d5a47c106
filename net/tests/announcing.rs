//! What is announced, read and forged byte by byte by a stranger on the same LAN.
#![allow(clippy::unwrap_used)]

mod common;

use common::hosts::{Host, Lan, Peer, shell};
use common::{KEY, OTHER_KEY};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);

/// The stranger's socket, on the switch.
fn stranger() -> UdpSocket {
    shell(&format!("ip addr add {STRANGER}/24 dev br0; ip route add 224.0.0.0/4 dev br0"));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5353)).unwrap();
    socket.join_multicast_v4(&GROUP, &STRANGER).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    socket
}

/// All packets of a while.
fn overhear(socket: &UdpSocket, wait: Duration) -> Vec<Vec<u8>> {
    let until = Instant::now() + wait;
    let mut packets = Vec::new();
    let mut buffer = [0; 9000];
    while Instant::now() < until {
        if let Ok(length) = socket.recv(&mut buffer) {
            packets.push(buffer[..length].to_vec());
        }
    }
    packets
}

/// Everything in a packet that can be read: labels of names and strings of TXT records, wherever they stand.
fn texts(packet: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    let mut text = String::new();
    for byte in packet.iter().chain([&0]) {
        if byte.is_ascii_graphic() || *byte == b' ' {
            text.push(char::from(*byte));
        } else {
            if text.len() >= 4 {
                texts.push(text.clone());
            }
            text.clear();
        }
    }
    texts
}

/// What follows a TXT key in any of the packets.
fn value(packets: &[Vec<u8>], key: &str, length: usize) -> String {
    let found = packets.iter().flat_map(|packet| texts(packet)).find_map(|text| {
        let at = text.find(key)? + key.len();
        text.get(at..at + length).map(str::to_owned)
    });
    found.unwrap_or_else(|| panic!("no {key} was announced"))
}

async fn host(lan: &mut Lan, last: u8) -> Host {
    let host = lan.host();
    host.run(&format!("ip addr add 10.77.0.{last}/24 dev eth0; ip link set eth0 up"));
    host.run("ip route add 224.0.0.0/4 dev eth0");
    host
}

#[tokio::test]
async fn two_workgroups_on_one_lan_see_no_names_of_each_other() {
    let Some(mut lan) = Lan::enter("two_workgroups_on_one_lan_see_no_names_of_each_other").await else {
        return;
    };
    let socket = stranger();
    let hosts = [host(&mut lan, 1).await, host(&mut lan, 2).await, host(&mut lan, 3).await];
    let listening = tokio::task::spawn_blocking(move || overhear(&socket, Duration::from_secs(4)));
    let one = hosts[0].start_in(KEY, true, "").await;
    let two = hosts[1].start_in(KEY, true, "").await;
    let other = hosts[2].start_in(OTHER_KEY, true, "").await;
    one.meets(&two).await;
    let packets = listening.await.unwrap();
    assert_eq!(one.met() + two.met() + other.met(), 2, "the other workgroup's node met nobody");
    let mut seen = 0;
    for text in packets.iter().flat_map(|packet| texts(packet)) {
        let of_a_client = |peer: &Peer| {
            let of_key = |rest: &str| rest.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
            let short = &peer.id[..8];
            let instance = text.split_once(short).map(|(before, rest)| (before.to_owned(), rest.to_owned()));
            text.contains(&format!("id={}", peer.id))
                || instance.is_some_and(|(before, rest)| {
                    matches!(before.as_str(), "" | "tcat-" | "\rtcat-") && of_key(rest.trim())
                })
        };
        let is_key = text.trim_start_matches(|c| c != 'w').strip_prefix("wg=").is_some();
        let is_service =
            ["_tcat", "_tcp", "local", "_services", "_dns-sd", "_udp"].iter().any(|s| text.ends_with(s));
        seen += usize::from(text.contains("id="));
        assert!(
            is_service || is_key || [&one, &two, &other].iter().any(|peer| of_a_client(peer)),
            "what is this: {text:?}"
        );
    }
    assert!(seen >= 3, "{seen}");
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for packet in &packets {
        assert!(!texts(packet).iter().any(|text| text.contains(hostname.trim())), "the machine's name");
    }
    assert_ne!(value(&packets, "wg=", 32), "");
}

/// What follows `wg=` in each packet that names this client, in order, without repetition.
fn groups_of(packets: &[Vec<u8>], peer: &Peer) -> Vec<String> {
    let id = format!("id={}", peer.id);
    let mut groups: Vec<String> = Vec::new();
    for packet in packets.iter().filter(|packet| texts(packet).iter().any(|text| text.contains(&id))) {
        let group = value(std::slice::from_ref(packet), "wg=", 32);
        if groups.last() != Some(&group) {
            groups.push(group);
        }
    }
    groups
}

#[tokio::test]
async fn who_knows_only_an_older_key_is_found_by_mdns_and_then_announced_under_the_newest() {
    let Some(mut lan) =
        Lan::enter("who_knows_only_an_older_key_is_found_by_mdns_and_then_announced_under_the_newest").await
    else {
        return;
    };
    let socket = stranger();
    let hosts = [host(&mut lan, 1).await, host(&mut lan, 2).await];
    let listening = tokio::task::spawn_blocking(move || overhear(&socket, Duration::from_secs(8)));
    let stayed = hosts[0].start_with_a_new_key().await;
    let away = hosts[1].start(true, "").await;
    let took = stayed.meets(&away).await;
    println!("they met after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let packets = listening.await.unwrap();
    let (new, old_and_new) = (groups_of(&packets, &stayed), groups_of(&packets, &away));
    assert_eq!(new.len(), 1, "{new:?}");
    // Who was retired knows the old hash alone: of the members nothing is announced under it any more.
    assert!(
        old_and_new.first() != new.first() && old_and_new.last() == new.first(),
        "{old_and_new:?} {new:?}"
    );
}

/// A name as DNS writes it.
fn name(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.push(part.len() as u8);
        bytes.extend(part.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn record(name: &[u8], kind: u16, class: u16, ttl_s: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(class.to_be_bytes());
    bytes.extend(ttl_s.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// The announcement of a client at an address, or with a time to live of 0 its goodbye.
fn announcement(instance: &str, client: &str, workgroup: &str, ip: Ipv4Addr, ttl_s: u32) -> Vec<u8> {
    let service = name(&["_tcat", "_tcp", "local"]);
    let full = name(&[instance, "_tcat", "_tcp", "local"]);
    let host = name(&[&format!("h{instance}"), "local"]);
    let mut text = Vec::new();
    for pair in ["v=1".to_owned(), format!("id={client}"), format!("wg={workgroup}")] {
        text.push(pair.len() as u8);
        text.extend(pair.as_bytes());
    }
    let mut at = vec![0, 0, 0, 0, 0x12, 0x67]; // Priority, weight, port 4711.
    at.extend(&host);
    let mut packet = vec![0, 0, 0x84, 0, 0, 0, 0, 4, 0, 0, 0, 0]; // A response with four answers.
    packet.extend(record(&service, 12, 1, ttl_s, &full));
    packet.extend(record(&full, 33, 0x8001, ttl_s, &at));
    packet.extend(record(&full, 16, 0x8001, ttl_s, &text));
    packet.extend(record(&host, 1, 0x8001, ttl_s, &ip.octets()));
    packet
}

fn id(number: u32) -> String {
    blake3::hash(&number.to_be_bytes()).to_hex().to_string()
}

/// Forges without end: clients that do not exist, and the members themselves at addresses where nobody answers.
fn forge(socket: &UdpSocket, members: &[String], workgroup: &str, stop: &AtomicBool, forged: &AtomicU32) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let member = &members[number as usize % members.len()];
        let nowhere = Ipv4Addr::from(0x0a4d_8000 + number % 0x7000);
        let unknown = id(number);
        for (instance, client, ttl_s) in [
            (unknown[..16].to_owned(), &unknown, 4500),
            (format!("f{}", &unknown[..12]), member, 4500),
            (format!("{}-{}", &member[..8], &workgroup[..8]), member, 4500 * (number % 2)),
        ] {
            let packet = announcement(&instance, client, workgroup, nowhere, ttl_s);
            let _ = socket.send_to(&packet, (GROUP, 5353));
            forged.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test]
async fn a_flood_of_forged_announcements_keeps_no_member_away_and_fills_no_memory() {
    let test = "a_flood_of_forged_announcements_keeps_no_member_away_and_fills_no_memory";
    let Some(mut lan) = Lan::enter(test).await else { return };
    let socket = stranger();
    let mut hosts = [host(&mut lan, 1).await, host(&mut lan, 2).await];
    // As `tcat init` configures it: who is heard of only among forgeries is found by luck.
    hosts.iter_mut().for_each(|host| host.listening_port = 4700);
    let listening = {
        let socket = socket.try_clone().unwrap();
        tokio::task::spawn_blocking(move || overhear(&socket, Duration::from_secs(3)))
    };
    let one = hosts[0].start(true, "").await;
    let mut two = hosts[1].start(true, "").await;
    one.meets(&two).await;
    let workgroup = value(&listening.await.unwrap(), "wg=", 32);
    let before = one.memory_bytes();
    let (stop, forged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let flood = {
        let (members, stop, forged) = (vec![one.id.clone(), two.id.clone()], stop.clone(), forged.clone());
        std::thread::spawn(move || forge(&socket, &members, &workgroup, &stop, &forged))
    };
    // Nothing that is forged touches the connection that there is.
    let since = Instant::now();
    let met = one.met() + two.met();
    while since.elapsed() < Duration::from_secs(8) {
        let pause = one.meets(&two).await;
        assert!(pause < Duration::from_secs(2), "{pause:?}");
    }
    assert_eq!(one.met() + two.met(), met, "they were connected anew");
    // Cut off and back, dead and back.
    hosts[0].cut(true);
    one.parted(&two).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    hosts[0].cut(false);
    let took = one.meets(&two).await;
    eprintln!("back after a cut, in the flood: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    two.kill().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    two = hosts[1].start(true, "").await;
    let took = one.meets(&two).await;
    eprintln!("back after a death, in the flood: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    let (after, forged) = (one.memory_bytes(), forged.load(Ordering::Relaxed));
    eprintln!("{forged} forged announcements: {before} bytes of memory before, {after} after");
    assert!(forged > 5000);
    assert!(after < before + (32 << 20), "{before} bytes before, {after} after {forged} announcements");
}
