//! What config.toml may say, and how a mistake in it is told.

use super::text::quoted;
use super::*;
use quickcheck::QuickCheck;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("config.toml"), text)
}

fn message(text: &str) -> String {
    let failure = parse(text).unwrap_err().failing();
    assert_eq!(failure.exit, crate::output::Exit::Usage);
    failure.to_string()
}

fn first() -> String {
    first_text(&FirstSettings {
        name: "anna",
        interfaces: &["lo".to_owned()],
        peers: &["127.0.0.1:4000".to_owned()],
        listen: "127.0.0.1:5000".parse().unwrap(),
    })
}

fn group(name: &str, media: &str) -> WorkgroupConfig {
    WorkgroupConfig {
        id: WorkgroupId::derive("test", &[name.as_bytes()]).to_string(),
        name: name.to_owned(),
        media: PathBuf::from(media),
        catalog: "sqlite:/x/catalog.db".to_owned(),
        objects: "file:/x/objects".to_owned(),
    }
}

#[test]
fn the_first_file_means_the_defaults_and_what_init_decided() {
    let config = parse(&first()).unwrap();
    assert_eq!(config.peers, ["127.0.0.1:4000"]);
    let plain = parse("name = \"anna\"").unwrap();
    let decided = Config {
        interfaces: config.interfaces.clone(),
        peers: config.peers.clone(),
        listen: config.listen,
        ..plain
    };
    assert_eq!(config, decided);
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = parse("name = \"a\"").unwrap();
    assert_eq!((config.lease_ms, config.horizon_days, config.scan.quiet_ms), (10_000, 90, 2000));
    assert_eq!((config.brake.percent, config.brake.items, config.brake.window_s), (30, 500, 600));
    assert_eq!((config.trash.days, config.trash.max_gib), (30, None));
    assert_eq!((config.import, config.deletions), (Import::Auto, Deletions::Restore));
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:0");
}

#[test]
fn every_default_that_the_first_file_shows_is_the_real_one() {
    let text = first();
    let shown: String = text
        .lines()
        .map(|line| if line.starts_with("# ") || line.starts_with("#max_gib") { "" } else { line })
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n");
    assert!(shown.contains("\nwindow_s = 600"));
    assert_eq!(parse(&shown).unwrap(), parse(&text).unwrap());
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let text = message("name = \"a\"\n\n[scan]\ninterval = 3\n");
    assert!(
        text.starts_with("cannot use the settings: config.toml line 4: unknown key `interval`"),
        "{text}"
    );
    assert!(!text.contains('\n'));
    assert!(message("lease_ms = 5000\n").contains("missing key `name`"));
    assert!(message("name = \"a\"\nimport = \"never\"\n").contains("line 2"));
    assert!(message("name = \"a\n").contains("line 1"));
}

#[test]
fn a_value_out_of_its_range_is_named_with_the_range() {
    let text = message("name = \"a\"\nlease_ms = 5\n");
    assert!(text.contains("lease_ms = 5 is not between 1000 and 600000"), "{text}");
    for bad in [
        "name = \"\"",
        "name = \" a\"",
        "name = \"a\\u0007\"",
        "name = \"a\"\nlease_ms = -1",
        "name = \"a\"\npeers = [\"host\"]",
        "name = \"a\"\npeers = [\":80\"]",
        "name = \"a\"\npeers = [\"a b:80\"]",
        "name = \"a\"\n[api]\nlisten = \"0.0.0.0:80\"",
        "name = \"a\"\n[limits]\nuploads = 0",
    ] {
        message(bad);
    }
}

#[test]
fn workgroups_are_appended_and_must_differ() {
    let one = first() + &workgroup_text(&group("one \"1\"", "/media/Été \\x")).unwrap();
    let config = parse(&one).unwrap();
    assert_eq!(config.workgroups, [group("one \"1\"", "/media/Été \\x")]);
    let two = one.clone() + &workgroup_text(&group("two", "/media/2")).unwrap();
    assert_eq!(parse(&two).unwrap().workgroups.len(), 2);
    let same_media = one.clone() + &workgroup_text(&group("two", "/media/Été \\x")).unwrap();
    assert!(message(&same_media).contains("workgroup.media is the same in two workgroups"));
    let relative = one + &workgroup_text(&group("two", "media")).unwrap();
    assert!(message(&relative).contains("not an absolute path"));
}

#[test]
fn any_text_reads_back_as_it_was_quoted() {
    fn law(text: String) -> bool {
        let table: toml::Table = toml::from_str(&format!("x = {}", quoted(&text))).unwrap();
        table["x"].as_str() == Some(text.as_str())
    }
    QuickCheck::new().quickcheck(law as fn(String) -> bool);
}
